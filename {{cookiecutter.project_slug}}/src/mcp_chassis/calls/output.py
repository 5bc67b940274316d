"""Output filtering: a model reads what a user would see, and no more than the largest result."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import pydantic_core
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel

from ..events.log import EventLog
from ..sinks.hidden import without_hidden
from .record import caller

_Result = TypeVar("_Result")

# What `to_json` writes for control characters; all other hidden ones are not ASCII.
_ESCAPED = re.compile(rb"\\[ubfr]|\x7f")
_MAX_ERROR = 2000  # characters of an anticipated failure


class ResultTooLarge(Exception):
    """A result is larger than the server sends. The message has the limit."""


def fit_to_send(result: _Result, events: EventLog, *, max_bytes: int, **what: str) -> _Result:
    """Return `result` without hidden characters, and note if there were any.

    Structured output is cleaned in the same places as its text, so that it still matches its schema.

    Args:
        result: what a tool, a resource or a prompt returned.
        events: where it is noted.
        max_bytes: largest result, as JSON.
        what: the kind and the name of what returned it.

    Raises:
        ResultTooLarge: if it is larger.
    """
    document = pydantic_core.to_json(result, bytes_mode="base64", by_alias=True, exclude_none=True)
    if len(document) > max_bytes:
        raise ResultTooLarge(f"The result is larger than {max_bytes} bytes. Ask for less at a time.")
    if document.isascii() and not _ESCAPED.search(document):  # almost every result
        return result
    removed = 0

    def clean(text: str) -> str:
        nonlocal removed
        kept = without_hidden(text)
        removed += len(text) - len(kept)
        return kept

    cleaned: _Result = _each_string(result, clean)
    if isinstance(result, CallToolResult) and isinstance(cleaned, CallToolResult):
        _fit_text(cleaned, result)
    if removed:
        events.record(
            "tool_execution_failed", caller(), severity="medium", reason="hidden_text", removed=removed, **what
        )
    return cleaned


def _fit_text(cleaned: CallToolResult, given: CallToolResult) -> None:
    """Write the JSON text of a structure anew: controls are escapes in it, which cleaning has not seen."""
    if cleaned.structured_content == given.structured_content:
        return
    texts = {_as_text(before): _as_text(after) for before, after in zip(_parts(given), _parts(cleaned), strict=True)}
    for block in cleaned.content:
        if isinstance(block, TextContent):
            block.text = texts.get(block.text, block.text)


def _parts(result: CallToolResult) -> list[Any]:
    """Return what the SDK may have made a text of: the structure, or each item of a list in it."""
    structure = result.structured_content
    items = structure.get("result") if isinstance(structure, dict) else None
    return [structure, *(items if isinstance(items, list | tuple) else [items])]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else without_hidden(pydantic_core.to_json(value, indent=2).decode())


def error_text(error: BaseException) -> str:
    """Return the text of an anticipated failure as it is sent."""
    text = str(error).encode(errors="replace").decode()  # a file's name may hold half of a surrogate pair
    return without_hidden(text if len(text) <= _MAX_ERROR else f"{text[:_MAX_ERROR]}…")


def _each_string(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_each_string(item, clean) for item in value]
    if isinstance(value, Mapping):
        return {_each_string(name, clean): _each_string(item, clean) for name, item in value.items()}
    if isinstance(value, BaseModel):
        # The request state is sealed on its way out: only this server reads it.
        members = {name: getattr(value, name) for name in value.model_fields_set - {"request_state"}}
        return value.model_copy(update={name: _each_string(item, clean) for name, item in members.items()})
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _each_string(getattr(value, f.name), clean) for f in fields(value) if f.init})
    return value
