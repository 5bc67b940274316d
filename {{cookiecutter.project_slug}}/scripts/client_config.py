"""Print what to write where, so that a client finds this server: `python scripts/client_config.py CLIENT`.

The server's command `client-config` does the same. The key is named, never shown.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from mcp_chassis.cli import run_script
from mcp_chassis.cli.terminal import HTTP_OPTIONS, Commands
from mcp_chassis.rooms import OFFERS, needs_key, rooms
from mcp_chassis.service import Service
from mcp_chassis.settings import Settings, SettingsError

_PORT = 33419  # at which Claude Code listens while its user logs in: a registered redirect URI names one


@dataclass(frozen=True)
class Target:
    """What a client needs to know of the server.

    Args:
        slug: the server's name, and the command that starts it.
        url: of the MCP endpoint.
        version: of the project.
        variable: the environment variable that holds the key; None where the client needs none or gets a token itself.
        command: that starts the server over stdio, in any directory.
        client_id: the client's at an authorization server at which it cannot register itself.
    """

    slug: str
    url: str
    version: str
    variable: str | None
    command: tuple[str, ...]
    client_id: str | None = None

    def bearer(self, form: str) -> dict[str, Any]:
        """Return the member `headers`, with the variable in the form that the client replaces."""
        return {} if self.variable is None else {"headers": {"Authorization": f"Bearer {form.format(self.variable)}"}}

    def client(self, name: str, member: str, **more: Any) -> dict[str, Any]:
        """Return the member `name` with the client id as its `member`; nothing without one."""
        return {} if self.client_id is None else {name: {member: self.client_id, **more}}


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def claude_code(target: Target) -> str:
    """`.mcp.json` in the project that uses the server."""
    own = target.bearer("${{{}}}") | target.client("oauth", "clientId", callbackPort=_PORT)
    return _json({"mcpServers": {target.slug: {"type": "http", "url": target.url, **own}}})


def claude_desktop(target: Target) -> str:
    """`claude_desktop_config.json`: it starts programs only, so it gets the server over stdio."""
    program, *arguments = target.command
    return _json({"mcpServers": {target.slug: {"command": program, "args": arguments}}})


def cursor(target: Target) -> str:
    """`.cursor/mcp.json`."""
    own = target.bearer("${{env:{}}}") | target.client("auth", "CLIENT_ID")
    return _json({"mcpServers": {target.slug: {"url": target.url, **own}}})


def vscode(target: Target) -> str:
    """`.vscode/mcp.json`."""
    own = target.bearer("${{env:{}}}") | target.client("oauth", "clientId")
    return _json({"servers": {target.slug: {"type": "http", "url": target.url, **own}}})


def codex(target: Target) -> str:
    """`~/.codex/config.toml`."""
    key = "" if target.variable is None else f'bearer_token_env_var = "{target.variable}"\n'
    client = "" if target.client_id is None else f'oauth = {{ client_id = "{target.client_id}" }}\n'
    return f'[mcp_servers.{target.slug}]\nurl = "{target.url}"\n{key}{client}'


def inspector(target: Target) -> str:
    """A command for a POSIX shell."""
    header = "" if target.variable is None else f' \\\n  --header "Authorization: Bearer ${target.variable}"'
    client = "" if target.client_id is None else f" --client-id {shlex.quote(target.client_id)}"
    command = "npx @modelcontextprotocol/inspector --cli"
    return f"{command} {target.url} --transport http --method tools/list{client}{header}\n"


def connector(target: Target) -> str:
    """The form for a custom connector of claude.ai (Claude Desktop and mobile too) or ChatGPT, which use OAuth only.

    Raises:
        SettingsError: if it could not connect.
    """
    if target.variable is not None:
        raise SettingsError(["AUTH_MODE: hosted connectors send no API key, they log in. They need AUTH_MODE=oauth."])
    if not target.url.startswith("https://"):
        raise SettingsError(["PUBLIC_URL: hosted connectors reach public servers only. Set it to https://…"])
    client_id = target.client_id or "(leave it empty: the client registers itself)"
    return f"URL: {target.url}\nOAuth client ID: {client_id}\n"


def registry(target: Target) -> str:
    """`server.json` of the MCP registry (schema of 2025-12-11).

    Raises:
        SettingsError: if the server has no public name.
    """
    parts = urlsplit(target.url)
    labels = (parts.hostname or "").split(".")
    if parts.scheme != "https" or len(labels) < 2 or labels[-1].isdigit():
        raise SettingsError(["PUBLIC_URL: the registry lists public servers. Set it, such as https://mcp.example.com."])
    remote: dict[str, Any] = {"type": "streamable-http", "url": target.url}
    if target.variable is not None:
        header = {"name": "Authorization", "description": "Bearer and a key", "isRequired": True, "isSecret": True}
        remote["headers"] = [header]
    return _json(
        {
            "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
            "name": f"{'.'.join(reversed(labels))}/{target.slug}",
            "description": f"The MCP server {target.slug}",
            "version": target.version,
            "remotes": [remote],
        }
    )


_MAKERS = (claude_code, claude_desktop, cursor, vscode, codex, inspector, connector, registry)
REDIRECTS = {
    "claude-code": f"http://localhost:{_PORT}/callback",
    "cursor": "cursor://anysphere.cursor-mcp/oauth/callback",
    "vscode": "http://127.0.0.1:33418/ (with and without the slash) and https://vscode.dev/redirect",
    "codex": "the one that `codex mcp login` opens",
    "inspector": "http://127.0.0.1:6276/oauth/callback",
    "connector": "the one that the form shows, such as https://claude.ai/api/mcp/auth_callback",
}
"""What to register for the client id, by client, as their documentation says."""
_OAUTH = next(offer for offer in OFFERS if offer.answer == "oauth")
CLIENTS: dict[str, Callable[[Target], str]] = {make.__name__.replace("_", "-"): make for make in _MAKERS}


def has_oauth() -> bool:
    """Whether this project has the optional package that clients log in with."""
    return _OAUTH.package in rooms()


def _client(text: str) -> str:
    if text == "connector":
        _require_oauth("connector: hosted connectors send no API key, they log in")
    return text


def _require_oauth(why: str) -> None:
    if not has_oauth():
        needs = f"This project was made without {_OAUTH.package}. To add it: {_OAUTH.command}"
        raise argparse.ArgumentTypeError(f"{why}. {needs}")


def _client_id(text: str) -> str:
    _require_oauth("it is for clients that log in")
    if not re.fullmatch(r"[A-Za-z0-9._~:/?&=@%+-]{1,512}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a client ID or the URL of a client metadata document")
    return text


def add_command(commands: Commands) -> None:
    """Add the command."""
    client = commands.add_parser("client-config", parents=[HTTP_OPTIONS], help="print how a client finds this server")
    text = "the client's ID at an authorization server without dynamic client registration"
    client.add_argument("--client-id", type=_client_id, help=text if has_oauth() else argparse.SUPPRESS)
    offered = [name for name in CLIENTS if has_oauth() or name != "connector"]
    client.add_argument("client", type=_client, choices=offered)
    client.set_defaults(run=_print)


def target_of(settings: Settings, service: Service) -> Target:
    """Return what clients need to know of a server with these settings."""
    variable = service.name.upper().replace("-", "_") + "_KEY"
    needed = settings.enable_auth and needs_key(settings)
    checkout = service.project
    uv = ("uv", "--directory", str(checkout), "run", service.name)
    wheel = (sys.executable, "-P", "-m", service.package)  # -P: no modules of the client's directory
    command = (*(uv if checkout is not None else wheel), "stdio")
    return Target(service.name, settings.resource_url, service.version, variable if needed else None, command)


def _print(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    """Print the text alone on standard output, so that it can be written into the file that is named beside it."""
    target, make = replace(target_of(settings, service), client_id=options.client_id), CLIENTS[options.client]
    if options.client_id is not None and (target.variable is not None or options.client not in REDIRECTS):
        raise SettingsError(["--client-id: has no effect here. It is for clients that log in, with AUTH_MODE=oauth."])
    text = make(target)
    print(f"# {make.__doc__}".partition("\n")[0], file=sys.stderr)
    if options.client_id is not None:
        print(f"# Register this redirect URI for {options.client_id}: {REDIRECTS[options.client]}", file=sys.stderr)
    if target.variable is not None and target.variable in text:
        print(f"# Set {target.variable} to the key in .env, or to one that `keys create` made.", file=sys.stderr)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(__file__, add_command))
