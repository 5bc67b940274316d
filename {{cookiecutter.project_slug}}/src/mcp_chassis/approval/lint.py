"""Finds what an attacker would write into a tool: hidden characters, orders to the model, arguments without bounds.

Tool poisoning hides instructions where a model reads and a person does not look. An honest description says what the
tool does; it does not instruct the model about anything else.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..calls.declarations import ToolPolicy
from ..calls.tools import GuardedTool
from ..sinks.hidden import find_hidden
from .bounds import unbounded
from .lock import LockError, definition, differences
from .orders import order_in

INSTRUCTIONS = "the server's instructions"
"""These are orders by nature. No tool has this name: it holds spaces."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")  # SEP-986; with a letter of another script one tool passes for another


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


def lint_problems(tools: Mapping[str, GuardedTool], other_texts: Mapping[str, Any]) -> list[str]:
    """Return why tools, and the texts of resources and prompts, cannot be approved."""
    problems = [problem for guarded in tools.values() for problem in tool_problems(guarded)]
    return problems + [problem for name, texts in other_texts.items() for problem in text_problems(name, texts)]


def tool_problems(guarded: GuardedTool) -> list[str]:
    """Return what is wrong with a tool's texts and schema, a sentence each with what to do."""
    name = guarded.tool.name
    problems = []
    if not _NAME.fullmatch(name):
        problems.append(f"{name!a}: is not a name that looks like no other. Use letters a-z, digits and _.")
    if not (guarded.tool.description or "").strip():
        problems.append(f"{name}: has no description. Write a docstring: the model chooses by it.")
    problems += text_problems(name, definition(guarded))
    for place, missing, field in unbounded(guarded.tool.parameters):
        advice = f"Add it: Annotated[..., Field({field}=...)]" if field else "Write a type instead of Any"
        problems.append(f"{name}: {place} has no {missing}. {advice}.")
    return problems


def unconfirmed(policy: ToolPolicy) -> list[str]:
    """Return what an operator should know of a destructive tool that may run without a confirmation."""
    if not policy.destructive or policy.confirm is True:
        return []
    where = " where the client cannot be asked" if policy.confirm else ""
    return [f"it is destructive and runs without a confirmation{where}: the client has to ask the user before the call"]


def text_problems(name: str, value: Any) -> list[str]:
    """Return what is wrong with the texts in `value`, the names of its members included."""
    problems = []
    for text in _strings(value):
        if find_hidden(text) is not None:
            problems.append(f"{name}: a text holds hidden characters: {ascii(text)[:80]}. Remove them.")
        if name != INSTRUCTIONS and (order := order_in(text)):
            problems.append(f"{name}: a text gives the model orders: {ascii(order)[:80]}. Describe the tool instead.")
    return problems


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings([*value.keys(), *value.values()])
    elif isinstance(value, Iterable):
        for item in value:
            yield from _strings(item)
