"""The command line. Each module adds its commands, and each command sets `run`, which returns the exit code."""

import argparse
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from ..calls.exact import InvalidTool
from ..rooms import rooms
from ..service import Service, imported_service
from ..settings import EXIT_CONFIG, SettingsError, load_settings, misspelled, read_env_file
from ..state import EXIT_UNAVAILABLE, StartError
from . import chassis, check, events, keys, serve, terminal, tools

log = structlog.get_logger("settings")
_MODULES = (serve, check, tools, keys, events, chassis)
_DESCRIPTION = "A secured MCP server. Settings come from the environment, then from .env; .env.example explains them."
SCRIPTS = {
    "dev": "serve, and start again when the code changes",
    "new": "make a tool, a resource or a prompt, with its listing and its test",
    "call": "call a tool of the running server",
    "bundle": "write dist/NAME-VERSION.mcpb, which desktop clients install",
    "client-config": "print how a client finds this server",
    "settings": "write your own settings into .env.example and docs/settings.md",
}
"""Commands for development. No server needs them: they are in `scripts/`, and explain their own options."""


def run(
    service: Service, arguments: Sequence[str] | None = None, script: Callable[[terminal.Commands], None] | None = None
) -> int:
    """Run one command and return the exit code: 0, 1 for a failed check, 69 for what the tools need and cannot be
    opened, 78 for settings that cannot be used. A script passes what adds its own command, in place of all others.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if script is None and arguments and arguments[0] in SCRIPTS:
        return run_as_script(service, arguments[0], arguments[1:])
    parser = _parser(service, script)
    options = parser.parse_args(arguments)
    try:
        if not options.loads:  # not about settings, so they work with any
            code = options.run(options, service)
        else:
            if options.command == "stdio":
                _forget_directory_of_client(service)
            settings = load_settings(service.settings, _env_file=_env_file(options, service), **_overrides(options))
            serve.log_to_stderr(settings)
            for place, sentence in misspelled(settings) if options.command in {"serve", "stdio"} else ():
                log.warning(sentence, place=place)
            code = options.run(options, service, settings)
        sys.stdout.flush()
        return int(code)
    except BrokenPipeError:  # `| head` has closed the pipe
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (Python flushes it once more at its end)
        return 0
    except SettingsError as error:
        options.report(error.problems)
        return EXIT_CONFIG
    except (StartError, InvalidTool) as error:
        print(error, file=sys.stderr)
        return EXIT_UNAVAILABLE if isinstance(error, StartError) else EXIT_CONFIG


def run_script(file: str, add_command: Callable[[terminal.Commands], None]) -> int:
    """Run the one command of a script of the project, `client-config` of `scripts/client_config.py`."""
    path = Path(file).resolve()
    project = tomllib.loads((path.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = project["scripts"][project["name"]].partition(".")[0]
    arguments = [path.stem.replace("_", "-"), *sys.argv[1:]]
    return run(imported_service(f"{package}.server"), arguments, add_command)


def run_as_script(service: Service, name: str, arguments: Sequence[str]) -> int:
    """Run a script with arguments of its own, and return its exit code."""
    file = f"scripts/{name.replace('-', '_')}.py"
    script = service.project / file if service.project is not None else None
    if script is None or not script.is_file():
        print(f"{name}: works in the project's checkout. An installed wheel holds no scripts.", file=sys.stderr)
        return 1
    # A script imports the code that runs here, installed or not.
    path = os.pathsep.join(filter(None, (str(service.directory.parent), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, str(script), *arguments]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}) as process:  # noqa: S603
        # A terminal sends Ctrl-C to the script as well.
        handlers: dict[int, Any] = {signal.SIGTERM: lambda *_: process.terminate(), signal.SIGINT: signal.SIG_IGN}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _parser(service: Service, script: Callable[[terminal.Commands], None] | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=service.name, description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=service.version)
    parser.set_defaults(listens=True, loads=True, report=_report)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    if script is not None:
        script(commands)
        return parser
    for module in _MODULES:
        module.add_commands(commands)
    for name, text in SCRIPTS.items():
        commands.add_parser(name, help=text)
    for room in rooms().values():
        room.add_commands(commands)
    completion = commands.add_parser("completion", help="print a completion script for a shell")
    completion.add_argument("shell", choices=("bash", "fish", "powershell", "tcsh", "zsh"))
    completion.set_defaults(run=partial(_completion, parser), loads=False)
    return parser


def _forget_directory_of_client(service: Service) -> None:
    """Import nothing more from the working directory, where `python -m` makes Python look first.

    What was imported before this is not covered. `client-config` prints a command with `-P`, under which nothing is.
    """
    package, here = service.directory, Path.cwd()
    is_searched = not sys.flags.safe_path and Path(sys.path[0]).resolve() == here
    if is_searched and here not in {package, package.parent, service.project}:
        del sys.path[0]


def _env_file(options: argparse.Namespace, service: Service) -> Path | None:
    """Return where `.env` is. The parent process starts `stdio` in a directory of its own, whose files are not ours."""
    given = getattr(options, "env_file", None)
    path = Path(given or ".env").absolute()
    if given is not None and not path.is_file():
        raise SettingsError([f"--env-file: {given} is not a file. Correct the path."])
    if options.command != "stdio":
        return path
    home = service.project or (path.parent if given is not None else None)
    if home is not None:
        os.chdir(home)  # where relative paths of settings lead
    if given is not None:
        return path
    try:
        return home / ".env" if home is not None and read_env_file(home / ".env") else None
    except SettingsError as error:
        print(f"{error} It is left out.", file=sys.stderr)
        return None


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: value for name in ("host", "port", "workers") if (value := getattr(options, name, None)) is not None}
    # What only matters on a network must not keep other commands from running.
    return given if options.listens else given | {"enable_auth": False, "host": "127.0.0.1"}


def _report(problems: list[str]) -> None:
    print("These settings cannot be used:", *(f"  {problem}" for problem in problems), sep="\n", file=sys.stderr)


def _completion(parser: argparse.ArgumentParser, options: argparse.Namespace, _: Service) -> int:
    try:
        import shtab  # noqa: PLC0415  (not installed with a server)
    except ModuleNotFoundError:
        print("Completion scripts are made by shtab. Install it: pip install shtab", file=sys.stderr)
        return 1
    print(shtab.complete(parser, shell=options.shell))
    return 0
