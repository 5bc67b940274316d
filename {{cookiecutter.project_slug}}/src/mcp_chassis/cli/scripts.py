"""Commands for development that are scripts of the project: no server needs them, so they are not in the chassis."""

import subprocess
import sys
from collections.abc import Sequence

from ..service import Service
from .options import Commands

SCRIPTS = {
    "new": "make a tool, a resource or a prompt, with its listing and its test",
    "call": "call a tool of the running server",
    "bundle": "write dist/NAME-VERSION.mcpb, which desktop clients install",
}
"""The scripts in `scripts/`, which explain their own options."""


def add_commands(commands: Commands) -> None:
    """List the scripts in the help."""
    for name, text in SCRIPTS.items():
        commands.add_parser(name, help=text)


def run_script(service: Service, name: str, arguments: Sequence[str]) -> int:
    """Run a script with arguments of its own, and return its exit code."""
    script = service.project / "scripts" / f"{name}.py" if service.project is not None else None
    if script is None or not script.is_file():
        print(f"{name}: works in the project's checkout. An installed wheel holds no scripts.", file=sys.stderr)
        return 1
    return subprocess.run([sys.executable, str(script), *arguments], check=False).returncode  # noqa: S603
