"""Puts values into URL templates so that each stays inside of the place it was given."""

import re
from urllib.parse import quote

from .errors import InvalidInput

_PLACE = re.compile(r"\{(\w+)\}")
_AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#{}]+(?=[/?#]|\Z)")


def fill_url(template: str, /, **values: str | int) -> str:
    """Return `template` with every `{name}` replaced by its value, percent-encoded (RFC 6570, simple expansion).

    A value is one segment of the path or one value of the query: what would be another segment, parameter or fragment
    is encoded. Scheme and host are the author's alone.

    Args:
        template: such as `https://api.example.com/users/{user}/notes?page={page}`.
        values: one for each name in the template.

    Raises:
        InvalidInput: if a value is empty, cannot be encoded, or names a directory (`.`, `..`, `../x`), which servers
            and clients resolve even when it is encoded (WHATWG URL, double-dot path segment).
        ValueError: if the template has a place outside of path, query and fragment, or the names do not match.
    """
    if not _AUTHORITY.match(template):
        raise ValueError("the template must start with a scheme and a host that hold no {place}")
    if set(_PLACE.findall(template)) != values.keys() or re.search("[{}]", _PLACE.sub("", template)):
        raise ValueError("the template's places and the names of the values differ")
    return _PLACE.sub(lambda place: _encoded(place[1], str(values[place[1]])), template)


def _encoded(name: str, value: str) -> str:
    if not value:
        raise InvalidInput(f"{name} is empty")
    if any(part in {".", ".."} for part in re.split(r"[/\\]", value)):
        raise InvalidInput(f"{name} has a part that is '.' or '..'")
    if any(character < " " or character == "\x7f" for character in value):
        raise InvalidInput(f"{name} holds a control character")
    try:
        return quote(value, safe="", errors="strict")
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} is not valid Unicode") from None
