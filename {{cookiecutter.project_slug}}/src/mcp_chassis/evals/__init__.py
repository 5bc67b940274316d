"""Evals: whether a model picks the right tool, with the right arguments, for a request in words."""

import argparse
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from ..http.origins import is_loopback
from ..rooms import Room
from ..settings.fields import RoomSettings, SettingsFields


class EvalSettings(RoomSettings):
    """The endpoint that answers as a model."""

    eval_api: Literal["openai", "anthropic"] = "openai"
    eval_url: str | None = None
    eval_model: str | None = None
    eval_key: SecretStr | None = None

    def problems(self, settings: SettingsFields) -> list[str]:
        """Return why no model can be asked."""
        if self.eval_url is None:
            return []
        problems = []
        try:
            parts = urlsplit(self.eval_url)
            is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        except ValueError:  # not a URL
            is_safe = False
        if not is_safe:
            problems.append("EVAL_URL: must begin with https://, or be http:// on this machine: it gets EVAL_KEY.")
        if self.eval_model is None:
            problems.append("EVAL_MODEL: is missing while EVAL_URL is set. Name the model to ask.")
        return problems


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
