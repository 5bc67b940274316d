"""Write your own settings into `.env.example` and `docs/settings.md`: `python scripts/settings.py`.

The server's command `settings` does the same. The texts are the descriptions of the fields.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from mcp_chassis.cli import run_script
from mcp_chassis.cli.terminal import Commands
from mcp_chassis.service import Service
from mcp_chassis.settings import team_fields

PROJECT = Path(__file__).resolve().parent.parent
_TABLE = "## Your own"
_LINES = "# --- Your own ---"


def add_command(commands: Commands) -> None:
    """Add the command."""
    settings = commands.add_parser("settings", help="write your own settings into .env.example and docs/settings.md")
    settings.add_argument("--check", action="store_true", help="write nothing; exit 1 if they are not up to date")
    settings.set_defaults(run=_settings, loads=False)


def _settings(options: argparse.Namespace, service: Service) -> int:
    fields, code = team_fields(service.settings), 0
    lines, rows = list[str](), ["", "| Setting | Default | Meaning |", "| --- | --- | --- |"] if fields else []
    for name, field in fields.items():
        default = _written(field.get_default(call_default_factory=True))
        shown = "required" if field.is_required() else f"`{default}`" if default else "none"
        meaning = " ".join((field.description or f"{name.replace('_', ' ').capitalize()}.").split())
        lines += [f"# {meaning}", f"{name.upper()}={default}"]
        rows.append(f"| `{name.upper()}` | {shown} | {meaning} |")
    for path, heading, own in (
        (PROJECT / ".env.example", _LINES, lines),
        (PROJECT / "docs" / "settings.md", _TABLE, rows),
    ):
        text = path.read_text(encoding="utf-8")
        kept = text.partition(heading)[0].rstrip("\n")  # a part goes from its heading up to the end of the file
        new = "\n".join([kept, "", heading, *own, ""]) if own else f"{kept}\n"
        if new != text and options.check:
            print(f"{path}: is not up to date. Run `{service.name} settings`.", file=sys.stderr)
            code = 1
        elif new != text:
            path.write_text(new, encoding="utf-8", newline="\n")
            print(f"wrote {path}")
    return code


def _written(default: Any) -> str:
    """Return a default as `.env` has it."""
    if default is None or default is PydanticUndefined or default in ((), [], {}):
        return ""
    if isinstance(default, list | tuple):
        return ",".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    sys.exit(run_script(__file__, add_command))
