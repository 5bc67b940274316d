"""Output hygiene: what a model reads is what a person would see, and no more of it than fits.

Characters that are invisible to people but not to models carry instructions past every reviewer: tags (ASCII
smuggling), bidirectional overrides (CVE-2021-42574), runs of zero-width characters and of variation selectors.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel

from ..events.log import EventLog
from ..sinks.text import FLAG
from .record import caller

_Result = TypeVar("_Result")

_HIDDEN = re.compile(
    f"({FLAG.pattern})"
    "|[\U000e0000-\U000e007f]"  # tags
    "|[\u202a-\u202e\u2066-\u2069]"  # bidirectional embeddings, overrides and isolates
)
_JOINERS = "\u200b-\u200f\u2060-\u2064\u206a-\u206f\ufeff\u00ad\u180e"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
# One of them is spelling, and so is a selector beside a joiner, in emoji; every longer run is a code. Looked for when
# the others are gone, which may have stood between them.
_RUN = re.compile("[" + _JOINERS + _SELECTORS + "]{3,}|[" + _JOINERS + "]{2}|[" + _SELECTORS + "]{2}")


_LONGEST_ERROR = 2000  # characters of what a function says when it refuses


class ResultTooLarge(Exception):
    """A result is larger than the server sends. The message says how much that is."""


def fit_to_send(result: _Result, events: EventLog, *, max_bytes: int, **what: str) -> _Result:
    """Return `result` without hidden characters, and note if there were any.

    Structured output is cleaned in the same places as its text, so that it goes on matching its schema.

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
    if document.isascii():  # almost every result: what is hidden is never ASCII
        return result
    removed = 0

    def clean(text: str) -> str:
        nonlocal removed
        kept = clean_text(text)
        removed += len(text) - len(kept)
        return kept

    cleaned: _Result = _each_string(result, clean)
    if removed:
        events.record(
            "tool_execution_failed", caller(), severity="medium", reason="hidden_text", removed=removed, **what
        )
    return cleaned


def error_text(error: BaseException) -> str:
    """Return what is sent of what a function says when it refuses."""
    text = str(error).encode(errors="replace").decode()  # a file's name may hold half of a surrogate pair
    return clean_text(text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}…")


def clean_text(text: str) -> str:
    """Return `text` without hidden characters; emoji flags and single joiners are not hidden but spelling."""
    return text if text.isascii() else _RUN.sub("", _HIDDEN.sub(lambda match: match[1] or "", text))


def _each_string(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_each_string(item, clean) for item in value]
    if isinstance(value, Mapping):
        return {_each_string(name, clean): _each_string(item, clean) for name, item in value.items()}
    if isinstance(value, BaseModel):
        # What is sealed on its way out is read by nobody but who wrote it.
        members = {name: getattr(value, name) for name in value.model_fields_set - {"request_state"}}
        return value.model_copy(update={name: _each_string(item, clean) for name, item in members.items()})
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _each_string(getattr(value, f.name), clean) for f in fields(value) if f.init})
    return value
