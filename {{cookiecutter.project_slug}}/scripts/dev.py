"""Serve while you write, and print what a client needs: `python scripts/dev.py`.

The server's command `dev` does the same.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from mcp_chassis.cli import run, run_script
from mcp_chassis.cli.serve import log_to_stderr, own_url
from mcp_chassis.cli.terminal import HTTP_OPTIONS, Commands
from mcp_chassis.http.server import listening_socket
from mcp_chassis.http.uvicorn_parts import ChangeReload, Config
from mcp_chassis.service import Service
from mcp_chassis.settings import Settings, SettingsError, all_fields

INSPECTOR = "@modelcontextprotocol/inspector"
_STOP_SECONDS = 5


def add_command(commands: Commands) -> None:
    """Add the command."""
    dev = commands.add_parser("dev", parents=[HTTP_OPTIONS], help="serve, and start again when the code changes")
    dev.add_argument("--inspector", action="store_true", help="start the MCP Inspector as well (needs Node.js)")
    dev.set_defaults(run=_dev)


def _dev(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    """Serve with reload. Unapproved tools are warned about, as everywhere but in production, where this is refused."""
    if settings.environment == "production":
        raise SettingsError(["ENVIRONMENT: is production. `dev` is for development: use `serve`."])
    listening_socket(settings.host, settings.port).close()  # the reloader would wait for a change of the code
    url = own_url(settings)[0] + settings.mcp_endpoint
    print(f"URL        {url}\nKey        {_place_of_key(settings)}\nInspector  npx {INSPECTOR}\n", flush=True)
    if not os.environ.get("LOG_FORMAT"):
        os.environ["LOG_FORMAT"] = "console"  # for the processes that serve
        log_to_stderr(settings.model_copy(update={"log_format": "console"}))
    with _inspector(url, service) if options.inspector else nullcontext():
        serve_again_on_change(options, service)
    return 0


def serve_again_on_change(options: argparse.Namespace, service: Service) -> None:
    """Serve in a process of its own, and in a new one after every change of the package's code, until stopped."""
    given = [(name, getattr(options, name)) for name in ("host", "port", "env_file")]
    again = ["serve", *(f"--{name.replace('_', '-')}={value}" for name, value in given if value is not None)]
    directory = str(service.directory)
    config = Config(directory, reload=True, reload_dirs=[directory], log_config=None)
    ChangeReload(config, target=partial(serve_again, service, again), sockets=[]).run()


def serve_again(service: Service, arguments: list[str], sockets: object = None) -> None:
    """Run in a process of its own, with its own socket and fresh settings, until the code changes."""
    raise SystemExit(run(service, arguments))


def _place_of_key(settings: Settings) -> str:
    if not settings.enable_auth:
        return "none is needed (ENABLE_AUTH=false)"
    if settings.api_key is None:
        return "one that `keys create` printed"
    return "API_KEY in " + ("the environment" if os.environ.get("API_KEY") else str(Path(".env").resolve()))


@contextmanager
def _inspector(url: str, service: Service) -> Iterator[None]:
    """Run the Inspector while the block runs, without the settings of the server: its key is pasted in the browser.

    The list of servers is a file, which the Inspector writes the key into: with `--server-url` its page has no field
    for a header. The file is removed after the block.
    """
    program = shutil.which("npx")
    if program is None:
        raise SettingsError(["--inspector: npx is not on the PATH. Install Node.js, or leave it out."])
    names = all_fields(service.settings)
    environment = {name: value for name, value in os.environ.items() if name.lower() not in names}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        catalog = Path(directory, "mcp.json")
        catalog.write_text(json.dumps({"mcpServers": {service.name: {"type": "http", "url": url}}}), encoding="utf-8")
        command = [program, "--yes", INSPECTOR, "--catalog", str(catalog)]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    sys.exit(run_script(__file__, add_command))
