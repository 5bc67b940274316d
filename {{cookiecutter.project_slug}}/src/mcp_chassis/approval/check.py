"""Whether the tools may be served as they are: locked as approved, and free of what the lint refuses."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..calls.tools import GuardedTool
from .lint import findings, text_findings
from .lock import LockError, differences

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def refusals(tools: Mapping[str, GuardedTool], other_texts: Mapping[str, Any] = _NOTHING) -> list[str]:
    """Return why this cannot be approved, as lines to read: the tools, and the texts of resources and prompts."""
    lines = [finding for guarded in tools.values() for finding in findings(guarded)]
    return lines + [finding for name, told in other_texts.items() for finding in text_findings(name, told)]


def objections(tools: Mapping[str, GuardedTool], lock: Path, other_texts: Mapping[str, Any] = _NOTHING) -> list[str]:
    """Return the reasons not to serve `tools` and what is told beside them, as lines to read; none if all is well."""
    lines = refusals(tools, other_texts)
    try:
        changed = differences(lock, tools)
    except LockError as error:
        return [*lines, str(error)]
    if changed:
        changed.append("Review this. If it is as it should be, run `tools lock` and commit the lock file.")
    return lines + changed
