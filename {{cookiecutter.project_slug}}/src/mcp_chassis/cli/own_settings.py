"""`settings`: writes the team's own settings into the files that explain them, from the descriptions of the fields."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ..service import Service
from ..settings import team_fields
from .options import Commands

_TABLE = "## Your own"
_LINES = "# --- Your own ---"


def add_commands(commands: Commands) -> None:
    """Add the command."""
    settings = commands.add_parser("settings", help="write your own settings into .env.example and docs/settings.md")
    settings.add_argument("--check", action="store_true", help="write nothing; exit 1 if they are not up to date")
    settings.set_defaults(run=_settings, loads=False)


def _settings(options: argparse.Namespace, service: Service) -> int:
    fields = team_fields(service.settings)
    root = service.project or Path()
    parts = ((root / ".env.example", _LINES, _lines(fields)), (root / "docs" / "settings.md", _TABLE, _rows(fields)))
    changed = [
        (path, text) for path, heading, lines in parts if (text := _updated(path, heading, [*lines])) is not None
    ]
    for path, text in changed:
        if options.check:
            print(f"{path}: is not up to date. Run `{service.name} settings`.", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"wrote {path}")
    return int(bool(changed) and options.check)


def _updated(path: Path, heading: str, lines: list[str]) -> str | None:
    """Return the text of a file with the part below a heading, up to its end, replaced; None if it stays the same."""
    text = path.read_text(encoding="utf-8")
    kept = text.partition(heading)[0].rstrip("\n")
    new = "\n".join([kept, "", heading, *lines, ""]) if lines else f"{kept}\n"
    return None if new == text else new


def _lines(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    for name, field in fields.items():
        yield f"# {_meaning(name, field)}"
        yield f"{name.upper()}={_written(field.get_default(call_default_factory=True))}"


def _rows(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield from ("", "| Setting | Default | Meaning |", "| --- | --- | --- |") if fields else ()
    for name, field in fields.items():
        default = _written(field.get_default(call_default_factory=True))
        shown = "required" if field.is_required() else f"`{default}`" if default else "none"
        yield f"| `{name.upper()}` | {shown} | {_meaning(name, field)} |"


def _meaning(name: str, field: FieldInfo) -> str:
    return " ".join((field.description or f"{name.replace('_', ' ').capitalize()}.").split())


def _written(default: Any) -> str:
    """Return a default as `.env` has it."""
    if default is None or default is PydanticUndefined or default in ((), [], {}):
        return ""
    if isinstance(default, list | tuple):
        return ",".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)
