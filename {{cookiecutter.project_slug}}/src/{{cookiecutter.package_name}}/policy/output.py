"""Output hygiene: what a model reads is what a person would see, and no more of it than fits.

Characters that are invisible to people but not to models carry instructions past every reviewer: tags (ASCII
smuggling), bidirectional overrides (CVE-2021-42574), runs of zero-width characters and of variation selectors.
"""

import re
from typing import Any

import pydantic_core
from mcp.types import CallToolResult
from pydantic import BaseModel

_FLAG = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"  # England, Scotland, Wales
_HIDDEN = re.compile(
    f"({_FLAG})"
    "|[\U000e0000-\U000e007f]"  # tags
    "|[\u202a-\u202e\u2066-\u2069]"  # bidirectional embeddings, overrides and isolates
)
_JOINERS = "\u200b-\u200f\u2060-\u2064\u206a-\u206f\ufeff\u00ad\u180e"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
# One of them is spelling, and so is a selector beside a joiner, in emoji; every longer run is a code. Looked for when
# the others are gone, which may have stood between them.
_RUN = re.compile("[" + _JOINERS + _SELECTORS + "]{3,}|[" + _JOINERS + "]{2}|[" + _SELECTORS + "]{2}")


class ResultTooLarge(Exception):
    """A result is larger than the server sends. The message says how much that is."""


def clean_result(result: CallToolResult, *, max_bytes: int) -> tuple[CallToolResult, int]:
    """Return `result` without hidden characters, and how many there were.

    Structured output is cleaned in the same places, so that it goes on matching its schema and its text.

    Args:
        result: what the tool returned.
        max_bytes: largest result, as JSON.

    Raises:
        ResultTooLarge: if it is larger.
    """
    size = len(pydantic_core.to_json([result.content, result.structured_content]))
    if size > max_bytes:
        raise ResultTooLarge(f"The result is larger than {max_bytes} bytes. Ask for less at a time.")
    removed = 0

    def clean(text: str) -> str:
        nonlocal removed
        kept = clean_text(text)
        removed += len(text) - len(kept)
        return kept

    result.content = _each_string(result.content, clean)
    if result.structured_content is not None:
        result.structured_content = _each_string(result.structured_content, clean)
    return result, removed


def clean_text(text: str) -> str:
    """Return `text` without hidden characters; emoji flags and single joiners are not hidden but spelling."""
    return text if text.isascii() else _RUN.sub("", _HIDDEN.sub(lambda match: match[1] or "", text))


def _each_string(value: Any, clean: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_each_string(item, clean) for item in value]
    if isinstance(value, dict):
        return {clean(name): _each_string(item, clean) for name, item in value.items()}
    if isinstance(value, BaseModel):
        members = {name: getattr(value, name) for name in value.model_fields_set}
        return value.model_copy(update={name: _each_string(item, clean) for name, item in members.items()})
    return value
