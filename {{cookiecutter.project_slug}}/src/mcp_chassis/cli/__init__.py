"""The command line: `serve`, `stdio`, `check`, `healthcheck`, `tools`, `keys`, `events`, `attack`."""

import argparse
import http.client
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..app import create_app
from ..auth.keys.source import fixed_keys
from ..calls.tools import GuardedTool
from ..events.logging import configure_logging, log_thread_crash
from ..http.server import serve, serve_and_reload
from ..mcp.stdio import serve_stdio
from ..parts import Parts
from ..rooms import rooms
from ..service import Service, build_server, unchecked_server
from ..settings import EXIT_CONFIG, Settings, SettingsError, load_settings
from .chassis import add_chassis_command
from .check import check_settings, report_problems
from .client_config import CLIENTS, target_of
from .events import add_event_commands, show_events
from .keys import add_key_commands, run_key_command
from .tools import check_tools, list_tools, lock_tools

_TOOL_COMMANDS = {
    "list": "print a table of the tools",
    "lock": "record the tools as approved in the lock file",
    "check": "print what has changed since then; exit 1 if anything has",
}
_Command = Callable[[argparse.Namespace, Service, Settings], int]
_DESCRIPTION = "A secured MCP server. Settings come from the environment, then from .env; .env.example explains them."


def run(service: Service, arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 for a failed check, 78 for settings that cannot be used."""
    options = _parser(service).parse_args(arguments)
    try:
        if options.command == "completion":
            code = _completion(service, options.shell)
        else:
            command: _Command = getattr(options, "run", None) or _COMMANDS[options.command]
            code = command(options, service, load_settings(service.settings, **_overrides(options)))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (Python flushes it once more at its end)
        return 0
    except SettingsError as error:
        if options.command == "check":
            report_problems(error.problems)
            return EXIT_CONFIG
        print(
            "These settings cannot be used:", *(f"  {problem}" for problem in error.problems), sep="\n", file=sys.stderr
        )
        return EXIT_CONFIG


def _parser(service: Service) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=service.name, description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=service.version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    http_options = argparse.ArgumentParser(add_help=False)
    http_options.add_argument("--host", help="address to listen on (setting HOST)")
    http_options.add_argument("--port", type=int, help="port to listen on (setting PORT)")
    serve_options = commands.add_parser("serve", parents=[http_options], help="serve over HTTP until stopped")
    serve_options.add_argument("--reload", action="store_true", help="start again when the code changes (development)")
    commands.add_parser("stdio", help="serve the parent process over standard input and output")
    commands.add_parser("check", parents=[http_options], help="report on settings, tools, keys and exposure, and exit")
    commands.add_parser("healthcheck", parents=[http_options], help="ask the running server whether it lives")
    commands.add_parser("attack", help="attack every tool in a copy of the server; exit 1 if anything gives way")
    tools = commands.add_parser("tools", help="list, approve or check the tools").add_subparsers(
        dest="tools_command", required=True, metavar="COMMAND"
    )
    for name, text in _TOOL_COMMANDS.items():
        tools.add_parser(name, help=text).set_defaults(command=f"tools {name}")
    add_key_commands(commands)
    add_event_commands(commands)
    client = commands.add_parser("client-config", parents=[http_options], help="print how a client finds this server")
    client.add_argument("client", choices=tuple(CLIENTS))
    completion = commands.add_parser("completion", help="print a completion script for a shell")
    completion.add_argument("shell", choices=("bash", "fish", "powershell", "tcsh", "zsh"))
    add_chassis_command(commands)
    for room in rooms().values():
        room.add_commands(commands)
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(options, name, None) for name in ("host", "port", "workers")}
    # These listen nowhere, so what only matters on a network must not keep them from running.
    offline = options.command.partition(" ")[0] in {"stdio", "attack", "tools", "keys", "chassis"}
    if offline or not getattr(options, "listens", True):
        given |= {"enable_auth": False, "host": "127.0.0.1"}
    return {name: value for name, value in given.items() if value is not None}


def _log_to_stderr(settings: Settings) -> None:
    configure_logging(settings.log_level, log_format=settings.log_format, secrets=settings.secrets)
    threading.excepthook = log_thread_crash


def _serve(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    _log_to_stderr(settings)
    if options.reload:
        return _reload(options, service, settings)
    processes = max((room.processes(settings) for room in rooms().values()), default=1)
    with ExitStack() as stack:
        for room in rooms().values():
            stack.enter_context(room.around(settings, processes=processes))
        if not any(room.serve(service, settings) for room in rooms().values()):
            serve_one(service, settings)
    return 0


def serve_one(service: Service, settings: Settings, sockets: list[socket.socket] | None = None) -> None:
    """Serve in this process.

    Args:
        service: what is served.
        settings: of the server.
        sockets: listen already; else it listens as the settings say.
    """
    _log_to_stderr(settings)
    serve(create_app(settings, service), settings, sockets)


def _stdio(_: argparse.Namespace, service: Service, settings: Settings) -> int:
    _log_to_stderr(settings)
    parts = Parts(settings=settings, name=service.name, version=service.version, transport="stdio")
    serve_stdio(build_server(service, parts), parts)
    return 0


def _reload(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    if settings.environment == "production":
        raise SettingsError(["ENVIRONMENT: is production, where code does not change. Leave out --reload."])
    given = [(name, getattr(options, name)) for name in ("host", "port")]
    again = ["serve", *(f"--{name}={value}" for name, value in given if value is not None)]
    serve_and_reload(partial(_serve_again, service, again), service.package)
    return 0


def _serve_again(service: Service, arguments: list[str], sockets: object = None) -> None:
    """Run in a process of its own, which ends when the code changes. It opens its own socket, with fresh settings."""
    raise SystemExit(run(service, arguments))


def _check(_: argparse.Namespace, service: Service, settings: Settings) -> int:
    _log_to_stderr(settings)
    return check_settings(service, settings)


def _client_config(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    """Print the text alone on standard output, so that it can be written into the file that is named beside it."""
    target, make = target_of(settings, service), CLIENTS[options.client]
    text = make(target)
    print(f"# {make.__doc__}".partition("\n")[0], file=sys.stderr)
    if target.variable is not None and target.variable in text:
        print(f"# Set {target.variable} to the key in .env, or to one that `keys create` made.", file=sys.stderr)
    print(text, end="")
    return 0


def _completion(service: Service, shell: str) -> int:
    try:
        import shtab  # noqa: PLC0415  (for people at a terminal; servers do without)
    except ModuleNotFoundError:
        print("Completion scripts are made by shtab. Install it: pip install shtab", file=sys.stderr)
        return 1
    print(shtab.complete(_parser(service), shell=shell))
    return 0


def _healthcheck(_: argparse.Namespace, service: Service, settings: Settings) -> int:
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


def _attack(_: argparse.Namespace, service: Service, settings: Settings) -> int:
    """Attack every tool in a copy of the server."""
    if find_spec("mcp_chassis.testing") is None:
        print("attack: an installed wheel does not hold the attacks. Run it in the checkout.", file=sys.stderr)
        return 2
    from ..testing.attacks.table import attack_tools  # noqa: PLC0415  (a server never needs it)

    _log_to_stderr(settings)
    return attack_tools(service)


def _keys(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    if settings.keys_file is None:
        raise SettingsError(["KEYS_FILE: is missing. Set it to the file that holds the keys, such as keys/keys.json."])
    _log_to_stderr(settings)
    scopes = unchecked_server(service).access.scopes | _PAGE_SCOPES
    revokers = (room.revoker(service, settings) for room in rooms().values())
    tell = next((revoker for revoker in revokers if revoker is not None), None)
    return run_key_command(options, settings.keys_file, fixed=fixed_keys(settings), known_scopes=scopes, tell=tell)


def _tools(command: Callable[[Mapping[str, GuardedTool], Path, Mapping[str, Any]], int]) -> _Command:
    def on_tools(_: argparse.Namespace, service: Service, settings: Settings) -> int:
        _log_to_stderr(settings)
        server = unchecked_server(service)
        return command(server.guarded_tools, settings.tools_lock, server.other_texts)

    return on_tools


_PAGE_SCOPES = {"events:read", "metrics:read"}
_COMMANDS: dict[str, _Command] = {
    "serve": _serve,
    "stdio": _stdio,
    "check": _check,
    "healthcheck": _healthcheck,
    "events": show_events,
    "attack": _attack,
    "client-config": _client_config,
    "keys": _keys,
    "tools list": _tools(list_tools),
    "tools lock": _tools(lock_tools),
    "tools check": _tools(check_tools),
}
