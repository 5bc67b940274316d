"""Whether the tools may be served as they are: locked as approved, and free of what the lint refuses."""

from collections.abc import Mapping
from pathlib import Path

from ..calls.tools import GuardedTool
from .lint import findings
from .lock import LockError, differences


def objections(tools: Mapping[str, GuardedTool], lock: Path) -> list[str]:
    """Return everything that speaks against serving `tools`, as lines to read; nothing if all is well."""
    lines = [finding for guarded in tools.values() for finding in findings(guarded)]
    try:
        changed = differences(lock, tools)
    except LockError as error:
        return [*lines, str(error)]
    if changed:
        changed.append("Review this. If it is as it should be, run `tools lock` and commit the lock file.")
    return lines + changed
