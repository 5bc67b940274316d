"""Evals: whether a model picks the right tool, with the right arguments, for a request in words."""

import argparse
from functools import partial
from pathlib import Path

from ..rooms import Room
from .settings import EvalSettings


class EvalsRoom(Room):
    """Adds `eval`. The server itself does not change."""

    settings = EvalSettings

    def add_commands(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Add the command."""
        from .eval_command import run_evals  # noqa: PLC0415

        text = "check that a model picks the expected tools; exit 1 if it does not"
        evaluating = commands.add_parser("eval", help=text)
        evaluating.set_defaults(run=partial(run_evals, Path("evals")), listens=False)
        evaluating.add_argument("files", nargs="*", type=Path, metavar="FILE", help="(default: evals/*.yaml)")
        how = evaluating.add_mutually_exclusive_group()
        how.add_argument("--record", action="store_true", help="ask the model, and keep its answers for --replay")
        how.add_argument("--replay", action="store_true", help="judge the kept answers; the default without EVAL_URL")


ROOM = EvalsRoom()
