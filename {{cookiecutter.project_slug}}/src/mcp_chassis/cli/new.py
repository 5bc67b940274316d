"""`new`: runs the project's `scripts/new.py`. What writes code is not part of a server."""

import argparse
import subprocess
import sys

from ..service import Service
from .options import Commands


def add_commands(commands: Commands) -> None:
    """Add the command."""
    new = commands.add_parser("new", help="make a tool, a resource or a prompt, with its listing and its test")
    new.add_argument("kind", choices=("tool", "resource", "prompt"))
    new.add_argument("name", metavar="NAME", help="the function's name, such as open_orders")
    new.set_defaults(run=_new, loads=False)


def _new(options: argparse.Namespace, service: Service) -> int:
    script = service.project / "scripts" / "new.py" if service.project is not None else None
    if script is None or not script.is_file():
        print("new: works in the project's checkout. An installed wheel holds no tests to add one to.", file=sys.stderr)
        return 1
    return subprocess.run([sys.executable, str(script), options.kind, options.name], check=False).returncode  # noqa: S603
