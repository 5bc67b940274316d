"""`chassis verify`: whether the chassis of this project is the template's, unmodified."""

import argparse
import sys

from ..service import Service
from ..verify import differences, summary
from .options import Commands


def add_commands(commands: Commands) -> None:
    """Add the command."""
    chassis = commands.add_parser("chassis", help="check that src/mcp_chassis is as the template made it")
    verify = chassis.add_subparsers(dest="chassis_command", required=True, metavar="COMMAND").add_parser(
        "verify", help="name each file that differs; exit 1 if any does"
    )
    verify.set_defaults(run=_verify, loads=False)


def _verify(_: argparse.Namespace, __: Service) -> int:
    if changed := differences():
        print("The chassis differs from the template's:", *(f"  {line}" for line in changed), sep="\n", file=sys.stderr)
        print("Undo the edit, or bring it to the template: an update would overwrite it.", file=sys.stderr)
        return 1
    print(summary())
    return 0
