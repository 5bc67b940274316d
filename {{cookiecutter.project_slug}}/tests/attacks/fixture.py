"""What the attacks need to get through to the tools: a state and valid arguments, for each that is «not proved»."""

from pathlib import Path

SAMPLES = {"read_note": [{"path": "todo.txt"}]}
"""For each tool a list of valid arguments, where the ones that are made up do not fit the state."""

UNPROVED = {"fetch_page": "it needs the internet", "git_log": "the attacked server runs outside of every repository"}
"""Tools that cannot succeed here, and why. Only these may fail in every call."""


def prepare(directory: Path) -> None:
    """Make the state to start from, in the directory of the attacked server, before each of its starts."""
    (directory / "notes").mkdir(exist_ok=True)
    (directory / "notes" / "todo.txt").write_text("water the plants", encoding="utf-8")
