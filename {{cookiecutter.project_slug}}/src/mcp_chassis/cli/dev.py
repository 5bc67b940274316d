"""For development: `dev` serves while you write, and prints what a client needs. The others are scripts."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ..service import Service
from ..settings import Settings, SettingsError, all_fields
from .serve import log_to_stderr, own_url, serve_again_on_change
from .terminal import HTTP_OPTIONS, Commands

INSPECTOR = "@modelcontextprotocol/inspector"
_STOP_SECONDS = 5
SCRIPTS = {
    "new": "make a tool, a resource or a prompt, with its listing and its test",
    "call": "call a tool of the running server",
    "bundle": "write dist/NAME-VERSION.mcpb, which desktop clients install",
    "client-config": "print how a client finds this server",
    "settings": "write your own settings into .env.example and docs/settings.md",
}
"""The scripts in `scripts/`, which explain their own options: no server needs them, so they are not in the chassis."""


def add_commands(commands: Commands) -> None:
    """Add `dev`, and list the scripts in the help."""
    dev = commands.add_parser("dev", parents=[HTTP_OPTIONS], help="serve, and start again when the code changes")
    dev.add_argument("--inspector", action="store_true", help="start the MCP Inspector as well (needs Node.js)")
    dev.set_defaults(run=_dev)
    for name, text in SCRIPTS.items():
        commands.add_parser(name, help=text)


def _dev(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    """Serve with reload. Unapproved tools are warned about, as everywhere but in production, where this is refused."""
    if settings.environment == "production":
        raise SettingsError(["ENVIRONMENT: is production. `dev` is for development: use `serve`."])
    url = own_url(settings)[0] + settings.mcp_endpoint
    command = ("npx", INSPECTOR, "--server-url", url, "--transport", "http")
    print(f"URL        {url}\nKey        {_place_of_key(settings)}\nInspector  {' '.join(command)}\n", flush=True)
    if not os.environ.get("LOG_FORMAT"):
        os.environ["LOG_FORMAT"] = "console"  # for the processes that serve
        log_to_stderr(settings.model_copy(update={"log_format": "console"}))
    with _running(command, service) if options.inspector else nullcontext():
        return serve_again_on_change(options, service, settings)


def _place_of_key(settings: Settings) -> str:
    if not settings.enable_auth:
        return "none is needed (ENABLE_AUTH=false)"
    if settings.api_key is None:
        return "one that `keys create` printed"
    return "API_KEY in " + ("the environment" if os.environ.get("API_KEY") else str(Path(".env").resolve()))


@contextmanager
def _running(command: tuple[str, ...], service: Service) -> Iterator[None]:
    """Run the Inspector while the block runs, without the settings of the server: its key is pasted in the browser."""
    program = shutil.which(command[0])
    if program is None:
        raise SettingsError(["--inspector: npx is not on the PATH. Install Node.js, or leave it out."])
    names = all_fields(service.settings)
    environment = {name: value for name, value in os.environ.items() if name.lower() not in names}
    process = subprocess.Popen([program, "--yes", *command[1:]], env=environment, stdin=subprocess.DEVNULL)  # noqa: S603
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def run_script(service: Service, name: str, arguments: Sequence[str]) -> int:
    """Run a script with arguments of its own, and return its exit code."""
    file = f"scripts/{name.replace('-', '_')}.py"
    script = service.project / file if service.project is not None else None
    if script is None or not script.is_file():
        print(f"{name}: works in the project's checkout. An installed wheel holds no scripts.", file=sys.stderr)
        return 1
    # A script imports the code that runs here, installed or not.
    path = os.pathsep.join(filter(None, (str(service.directory.parent), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False).returncode  # noqa: S603
