"""`serve` and `stdio` run the server, `healthcheck` asks a running one, `attack` attacks the tools of a copy."""

import argparse
import socket
import sys
import threading
from contextlib import ExitStack

import httpx2

from ..app import create_app
from ..events.logging import configure_logging, log_thread_crash
from ..http.server import serve
from ..mcp.stdio import serve_stdio
from ..parts import Parts
from ..rooms import rooms
from ..service import Service, build_server
from ..settings import Settings
from .terminal import ENV_OPTIONS, HTTP_OPTIONS, Commands

_ON_THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    serving = commands.add_parser("serve", parents=[HTTP_OPTIONS], help="serve over HTTP until stopped")
    serving.add_argument("--reload", action="store_true", help="as `dev`, for development")
    serving.set_defaults(run=_serve)
    stdio = commands.add_parser("stdio", parents=[ENV_OPTIONS], help="serve the parent process over stdio")
    stdio.set_defaults(run=_stdio, listens=False)
    health = commands.add_parser("healthcheck", parents=[HTTP_OPTIONS], help="check that the running server responds")
    health.set_defaults(run=_healthcheck)
    attack = commands.add_parser("attack", help="attack every tool in a copy of the server; exit 1 if any gives way")
    attack.add_argument("--fixture", metavar="MODULE", default="", help="default: tests.attacks.fixture, if it exists")
    attack.add_argument("--allow-unproved", action="store_true", help="accept tools of which no call succeeded")
    attack.set_defaults(run=_attack, listens=False)


def log_to_stderr(settings: Settings) -> None:
    """Send every log line to standard error, without the secrets of the settings."""
    configure_logging(settings.log_level, log_format=settings.log_format, secrets=settings.secrets)
    threading.excepthook = log_thread_crash


def serve_one(service: Service, settings: Settings, sockets: list[socket.socket] | None = None) -> None:
    """Serve in this process, from `sockets` or, by default, from one as `HOST` and `PORT` say."""
    log_to_stderr(settings)  # a worker has not configured it yet
    serve(create_app(settings, service), settings, sockets)


def own_url(settings: Settings) -> tuple[str, dict[str, str]]:
    """Return the URL of the server that runs on this machine, and the `Host` that it accepts there."""
    host = _ON_THIS_MACHINE.get(settings.host, settings.host)
    url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    return url, {"Host": f"127.0.0.1:{settings.port}"}


def _serve(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    if options.reload:
        from . import run_as_script  # noqa: PLC0415  (which imports this module)

        given = [(name, getattr(options, name)) for name in ("host", "port", "env_file")]
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given if value is not None]
        return run_as_script(service, "dev", words)
    processes = max((room.processes(settings) for room in rooms().values()), default=1)
    with ExitStack() as stack:
        for room in rooms().values():
            stack.enter_context(room.around(settings, processes=processes))
        if not any(room.serve(service, settings) for room in rooms().values()):
            serve_one(service, settings)
    return 0


def _stdio(_: argparse.Namespace, service: Service, settings: Settings) -> int:
    parts = Parts(settings=settings, name=service.name, version=service.version, transport="stdio")
    serve_stdio(build_server(service, parts), parts)
    return 0


def _healthcheck(_: argparse.Namespace, __: Service, settings: Settings) -> int:
    url, headers = own_url(settings)
    try:
        httpx2.get(f"{url}/livez", headers=headers, timeout=3, trust_env=False).raise_for_status()
    except httpx2.HTTPError as error:
        print(f"unhealthy: {error}", file=sys.stderr)
        return 1
    return 0


def _attack(options: argparse.Namespace, service: Service, __: Settings) -> int:
    try:
        from ..testing.attacks.run import attack_tools  # noqa: PLC0415  (a server never needs it)
    except ModuleNotFoundError as error:
        text = f"attack: needs {error.name}. Install the extra: pip install -e '.[dev]'"
        if error.name == "mcp_chassis.testing":
            text = "attack: an installed wheel does not hold the attacks. Run it in the checkout."
        print(text, file=sys.stderr)
        return 2
    return attack_tools(service, options.fixture, allow_unproved=options.allow_unproved)
