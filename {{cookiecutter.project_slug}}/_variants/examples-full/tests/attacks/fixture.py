"""What the attacks need to get through to the tools: a state, and valid arguments where made-up ones do not fit it."""

from pathlib import Path

SAMPLES = {
    "read_note": [{"path": "todo.txt"}],
    "ship_order": [{"number": number, "carrier": "post"} for number in (1, 5, 7)],
    "cancel_order": [{"number": number} for number in (3, 6, 8)],
    "orders://{number}": [{"number": "2"}],
}
"""For each tool and resource a list of valid arguments. Orders from 5 on are those that the attacks place."""

UNPROVED = {
    "fetch_page": "it needs the internet",
    "git_log": "the attacked server runs outside of every repository",
    "stock_of": "there is no stock service",
}
"""Tools that cannot succeed here, and why. Only these may fail in every call."""


def prepare(directory: Path) -> None:
    """Make the state to start from, in the directory of the attacked server, before each of its starts."""
    (directory / "notes").mkdir(exist_ok=True)
    (directory / "notes" / "todo.txt").write_text("water the plants", encoding="utf-8")
