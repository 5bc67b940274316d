#!/usr/bin/env python3
"""Write docs/standards.md from tests/standards.toml: public catalogues of threats, and what answers each entry."""

import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests" / "standards.toml"
PAGE = ROOT / "docs" / "standards.md"
_HEAD = """# Standards

This page maps the entries of public catalogues to the promises in a project's `docs/promises.md`, and names the
remaining risks. It is the project's own assessment, not a certificate. [SCORECARD.md](../SCORECARD.md) shows the
tests of every promise and their latest result. The page is generated from `tests/standards.toml`.
"""


def catalogues() -> list[dict[str, Any]]:
    """Return the catalogues with their entries."""
    found: list[dict[str, Any]] = tomllib.loads(SOURCE.read_text(encoding="utf-8"))["catalogue"]
    return found


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for catalogue in catalogues():
        parts += [f"## {catalogue['name']}\n", f"Source: <{catalogue['url']}>\n"]
        rows = ["| Entry | What answers it | Promises and tests | What remains |", "|---|---|---|---|"]
        for entry in catalogue["entry"]:
            answer = entry.get("answer") or f"Not covered: {entry['not_covered']}"
            proof = [*entry.get("promises", ()), *(f"`{test}`" for test in entry.get("tests", ()))]
            cells = (f"{entry['id']}: {entry['title']}", answer, ", ".join(proof), entry.get("remains", ""))
            rows.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.relative_to(ROOT)}\n")
