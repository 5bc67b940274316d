"""`client-config`: what to write where, so that a client finds this server. The key is named, never shown."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..rooms import needs_key
from ..service import Service
from ..settings import Settings, SettingsError
from .options import HTTP_OPTIONS, Commands


@dataclass(frozen=True)
class Target:
    """What a client needs to know of the server.

    Args:
        slug: the server's name, and the command that starts it.
        url: of the MCP endpoint.
        version: of the project.
        variable: the environment variable that holds the key; None where the client needs none or gets a token itself.
        command: that starts the server over stdio, in any directory.
    """

    slug: str
    url: str
    version: str
    variable: str | None
    command: tuple[str, ...]

    def bearer(self, form: str) -> dict[str, Any]:
        """Return the member `headers`, with the variable in the form that the client replaces."""
        return {} if self.variable is None else {"headers": {"Authorization": f"Bearer {form.format(self.variable)}"}}


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def claude_code(target: Target) -> str:
    """`.mcp.json` in the project that uses the server."""
    return _json({"mcpServers": {target.slug: {"type": "http", "url": target.url, **target.bearer("${{{}}}")}}})


def claude_desktop(target: Target) -> str:
    """`claude_desktop_config.json`: it starts programs only, so it gets the server over stdio."""
    program, *arguments = target.command
    return _json({"mcpServers": {target.slug: {"command": program, "args": arguments}}})


def cursor(target: Target) -> str:
    """`.cursor/mcp.json`."""
    return _json({"mcpServers": {target.slug: {"url": target.url, **target.bearer("${{env:{}}}")}}})


def vscode(target: Target) -> str:
    """`.vscode/mcp.json`."""
    return _json({"servers": {target.slug: {"type": "http", "url": target.url, **target.bearer("${{env:{}}}")}}})


def codex(target: Target) -> str:
    """`~/.codex/config.toml`."""
    key = "" if target.variable is None else f'bearer_token_env_var = "{target.variable}"\n'
    return f'[mcp_servers.{target.slug}]\nurl = "{target.url}"\n{key}'


def inspector(target: Target) -> str:
    """A command for a POSIX shell."""
    header = "" if target.variable is None else f' \\\n  --header "Authorization: Bearer ${target.variable}"'
    command = "npx @modelcontextprotocol/inspector --cli"
    return f"{command} {target.url} --transport http --method tools/list{header}\n"


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


_MAKERS = (claude_code, claude_desktop, cursor, vscode, codex, inspector, registry)
CLIENTS: dict[str, Callable[[Target], str]] = {make.__name__.replace("_", "-"): make for make in _MAKERS}


def add_commands(commands: Commands) -> None:
    """Add the command."""
    client = commands.add_parser("client-config", parents=[HTTP_OPTIONS], help="print how a client finds this server")
    client.add_argument("client", choices=tuple(CLIENTS))
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
    target, make = target_of(settings, service), CLIENTS[options.client]
    text = make(target)
    print(f"# {make.__doc__}".partition("\n")[0], file=sys.stderr)
    if target.variable is not None and target.variable in text:
        print(f"# Set {target.variable} to the key in .env, or to one that `keys create` made.", file=sys.stderr)
    print(text, end="")
    return 0
