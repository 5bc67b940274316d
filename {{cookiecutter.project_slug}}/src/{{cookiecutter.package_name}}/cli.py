"""The command line: `serve`, `stdio`, `check`, `healthcheck`, `tools`, `keys`, `attack`."""

import argparse
import http.client
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .app import create_app
from .attack_command import attack_tools
from .credentials import fixed_keys, make_credentials
from .http_server import serve
from .key_commands import add_key_commands, run_key_command
from .observability.events import EventLog
from .observability.logging import configure_logging
from .policy.tools import GuardedTool
from .server import build_server, unchecked_server
from .settings import EXIT_CONFIG, Settings, SettingsError, load_settings
from .stdio_server import serve_stdio
from .tool_commands import check_tools, list_tools, lock_tools

_TOOL_COMMANDS = {
    "list": "print a table of the tools",
    "lock": "record the tools as approved in the lock file",
    "check": "print what has changed since then; exit 1 if anything has",
}
_DESCRIPTION = "A secured MCP server. Settings come from the environment, then from .env; .env.example explains them."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 for a failed check, 78 for settings that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(**_overrides(options))
        if options.command.startswith("keys"):
            return _keys(options, settings)
        return _COMMANDS[options.command](settings)
    except SettingsError as error:
        print(
            "These settings cannot be used:", *(f"  {problem}" for problem in error.problems), sep="\n", file=sys.stderr
        )
        return EXIT_CONFIG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=__name__.partition(".")[0].replace("_", "-"), description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    http_options = argparse.ArgumentParser(add_help=False)
    http_options.add_argument("--host", help="address to listen on (setting HOST)")
    http_options.add_argument("--port", type=int, help="port to listen on (setting PORT)")
    commands.add_parser("serve", parents=[http_options], help="serve over HTTP until stopped")
    commands.add_parser("stdio", help="serve the program that started this one, over standard input and output")
    commands.add_parser("check", parents=[http_options], help="say whether the settings can be used, and exit")
    commands.add_parser("healthcheck", parents=[http_options], help="ask the running server whether it lives")
    commands.add_parser("attack", help="attack every tool in a copy of the server; exit 1 if anything gives way")
    tools = commands.add_parser("tools", help="list, approve or check the tools").add_subparsers(
        dest="tools_command", required=True, metavar="COMMAND"
    )
    for name, text in _TOOL_COMMANDS.items():
        tools.add_parser(name, help=text).set_defaults(command=f"tools {name}")
    add_key_commands(commands)
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(options, name, None) for name in ("host", "port")}
    # These listen nowhere, so what only matters on a network must not keep them from running.
    if options.command.partition(" ")[0] in {"stdio", "attack", "tools", "keys"}:
        given |= {"enable_auth": False, "host": "127.0.0.1"}
    return {name: value for name, value in given.items() if value is not None}


def _log_to_stderr(settings: Settings) -> None:
    configure_logging(settings.log_level, log_format=settings.log_format, secrets=settings.secrets)


def _serve(settings: Settings) -> int:
    _log_to_stderr(settings)
    serve(create_app(settings), settings)
    return 0


def _stdio(settings: Settings) -> int:
    _log_to_stderr(settings)
    serve_stdio(build_server(EventLog(secrets=settings.secrets), settings))
    return 0


def _check(settings: Settings) -> int:
    make_credentials(settings)
    on = {True: "on", False: "OFF"}
    print(f"The settings can be used. The server would listen on {settings.host}:{settings.port}, with")
    print(f"  authentication {on[settings.enable_auth]}, rate limit {on[settings.enable_rate_limit]},", end=" ")
    print(f"request logging {on[settings.enable_request_logging]}, as {settings.environment}.")
    return 0


def _healthcheck(settings: Settings) -> int:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    connection = http.client.HTTPConnection(host, settings.port, timeout=3)
    try:
        connection.request("GET", "/livez", headers={"Host": f"127.0.0.1:{settings.port}"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"unhealthy: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    return 0 if status == http.HTTPStatus.OK else 1


def _attack(settings: Settings) -> int:
    _log_to_stderr(settings)
    return attack_tools()


def _keys(options: argparse.Namespace, settings: Settings) -> int:
    if settings.keys_file is None:
        raise SettingsError(["KEYS_FILE: is missing. Set it to the file that holds the keys, such as keys/keys.json."])
    _log_to_stderr(settings)
    scopes = unchecked_server(EventLog(), settings).access.scopes
    return run_key_command(options, settings.keys_file, fixed=fixed_keys(settings), known_scopes=scopes)


def _tools(command: Callable[[Mapping[str, GuardedTool], Path], int]) -> Callable[[Settings], int]:
    def run(settings: Settings) -> int:
        _log_to_stderr(settings)
        return command(unchecked_server(EventLog(), settings).guarded_tools, settings.tools_lock)

    return run


_COMMANDS: dict[str, Callable[[Settings], int]] = {
    "serve": _serve,
    "stdio": _stdio,
    "check": _check,
    "healthcheck": _healthcheck,
    "attack": _attack,
    "tools list": _tools(list_tools),
    "tools lock": _tools(lock_tools),
    "tools check": _tools(check_tools),
}
