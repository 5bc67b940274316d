"""Reads JSON in the one way that every other reader agrees with, or not at all (RFC 8259; RFC 7493, I-JSON)."""

import json
import math
from typing import Any, NoReturn

_MAX_DEPTH = 64  # of arrays and objects in each other
_TOO_DEEP = f"the document is nested more than {_MAX_DEPTH} levels deep"
_MAX_DIGITS = 40  # characters of a number; longer ones cost quadratic time


class InvalidJson(Exception):
    """The document is not strict JSON. The message says why and holds nothing of the document."""


def parse_json(document: bytes, *, max_nodes: int = 20_000) -> Any:
    """Return the value that `document` stands for.

    Args:
        document: UTF-8 without a byte order mark.
        max_nodes: most members, items, objects and arrays: what a body costs follows from them, not from its bytes.

    Raises:
        InvalidJson: for other encodings, duplicate members, NaN, Infinity, lone surrogates, and beyond the limits.
    """
    if has_more_nodes(document, max_nodes):
        raise InvalidJson(f"the document holds more than {max_nodes} values")
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidJson("the document is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise InvalidJson("the document starts with a byte order mark")
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise InvalidJson(_TOO_DEEP) from None
    except ValueError:
        raise InvalidJson("the document is not JSON") from None
    if _holds_more(b"[{", document, _MAX_DEPTH) and _is_too_deep(value):
        raise InvalidJson(_TOO_DEEP)
    if b"\\" in document and b"\\u" in document:  # one byte is found eight times as fast
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidJson("a string holds half of a surrogate pair") from None
    return value


def has_more_nodes(document: bytes, limit: int) -> bool:
    """Whether a document holds more values than `limit`, without parsing it. Commas in strings do not count.

    Of a document that is not JSON it may judge wrongly what follows the error, where the parser does not get to.
    """
    if len(document) <= limit or not _holds_more(b",[{", document, limit):
        return False
    bare = document.replace(rb"\\", b"").replace(rb"\"", b"")  # every quote that is left begins or ends a string
    return bare.count(b'"') > 4 * limit or _holds_more(b",[{", b"".join(bare.split(b'"')[::2]), limit)


def _holds_more(separators: bytes, text: bytes, limit: int) -> bool:
    """Whether a text holds more separators. To remove the first ones takes a tenth of the time of counting them all."""
    found = (text.replace(separators[i : i + 1], b"", limit + 1) for i in range(len(separators)))
    return sum(len(text) - len(rest) for rest in found) > limit


def _is_too_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_MAX_DEPTH):
        inner = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _number(digits: str) -> int | float:
    if len(digits) > _MAX_DIGITS:
        raise InvalidJson(f"a number is longer than {_MAX_DIGITS} characters")
    if digits.lstrip("-").isdigit():
        return int(digits)
    value = float(digits)
    if not math.isfinite(value):
        raise InvalidJson("a number is out of range")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidJson("an object has two members of the same name")
    return members


def _constant(_: str) -> NoReturn:
    raise InvalidJson("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_number, parse_float=_number, parse_constant=_constant
)
