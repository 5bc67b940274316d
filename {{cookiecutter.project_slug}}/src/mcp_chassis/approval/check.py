"""Whether the tools may be served as they are: as approved in the lock file, and without a finding of the lint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..calls.tools import GuardedTool
from .lint import lint_problems
from .lock import LockError, differences


def approval_problems(tools: Mapping[str, GuardedTool], lock: Path, other_texts: Mapping[str, Any]) -> list[str]:
    """Return the reasons not to serve the tools, and the texts of resources and prompts; none if all is well."""
    problems = lint_problems(tools, other_texts)
    try:
        changed = differences(lock, tools)
    except LockError as error:
        return [*problems, str(error)]
    if changed:
        changed.append("Review this. If it is as it should be, run `tools lock` and commit the lock file.")
    return problems + changed
