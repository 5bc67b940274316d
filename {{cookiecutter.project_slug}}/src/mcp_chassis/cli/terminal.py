"""What several commands have in common: options, colours and tables."""

import argparse
import os
from collections.abc import Sequence
from typing import TextIO, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

ENV_OPTIONS = argparse.ArgumentParser(add_help=False)
ENV_OPTIONS.add_argument("--env-file", metavar="FILE", help="read settings from FILE in place of .env")

HTTP_OPTIONS = argparse.ArgumentParser(add_help=False, parents=[ENV_OPTIONS])
HTTP_OPTIONS.add_argument("--host", help="address to listen on (setting HOST)")
HTTP_OPTIONS.add_argument("--port", type=int, help="port to listen on (setting PORT)")

_CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def colored(text: str, color: str, stream: TextIO) -> str:
    """Return `text` in a colour if `stream` is a terminal that shows it, unless NO_COLOR is set (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_CODES[color]}m{text}\x1b[0m"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines with columns of one width each."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
