"""Reads JSON in the one way that every other reader agrees with, or not at all (RFC 8259; RFC 7493, I-JSON)."""

import functools
import json
import math
import re
from typing import Any, NoReturn

# Possessive, and content with a string that never ends: no input makes it go back (linear time).
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class InvalidJson(ValueError):
    """The document is not strict JSON. The message says why and holds nothing of the document."""


def parse_json(document: bytes, *, max_depth: int = 64, max_digits: int = 40) -> Any:
    """Return the value that `document` stands for.

    Args:
        document: UTF-8 without a byte order mark.
        max_depth: deepest nesting of arrays and objects.
        max_digits: longest number, in characters; arbitrary ones cost quadratic time.

    Raises:
        InvalidJson: for other encodings, duplicate members, NaN, Infinity, lone surrogates, and beyond the limits.
    """
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidJson("the document is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise InvalidJson("the document starts with a byte order mark")
    if _is_deeper(document, max_depth):
        raise InvalidJson(f"the document is nested more than {max_depth} levels deep")
    try:
        value = _decoder(max_digits).decode(text)
    except InvalidJson:
        raise
    except ValueError:
        raise InvalidJson("the document is not JSON") from None
    if b"\\" in document and b"\\u" in document and _has_lone_surrogate(value):
        raise InvalidJson("a string holds half of a surrogate pair")
    return value


@functools.cache
def _decoder(max_digits: int) -> json.JSONDecoder:
    def number(digits: str) -> int | float:
        if len(digits) > max_digits:
            raise InvalidJson(f"a number is longer than {max_digits} characters")
        if digits.lstrip("-").isdigit():
            return int(digits)
        value = float(digits)
        if not math.isfinite(value):
            raise InvalidJson("a number is out of range")
        return value

    return json.JSONDecoder(object_pairs_hook=_members, parse_int=number, parse_float=number, parse_constant=_constant)


def _is_deeper(document: bytes, limit: int) -> bool:
    # Almost every document has fewer brackets than the limit, so it cannot be deeper.
    if not _has_more_brackets(document, limit):
        return False
    depth = 0
    for token in _STRUCTURE.finditer(document):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            if depth > limit:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def _has_more_brackets(document: bytes, limit: int) -> bool:
    # One after another: to count them all would take longer than to parse a large document with few of them.
    found = 0
    for bracket in (b"[", b"{"):
        place = document.find(bracket)
        while place >= 0:
            found += 1
            if found > limit:
                return True
            place = document.find(bracket, place + 1)
    return False


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidJson("an object has two members of the same name")
    return members


def _constant(_: str) -> NoReturn:
    raise InvalidJson("NaN and Infinity are not JSON")


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
