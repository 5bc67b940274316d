"""Long results in pages: the client gets a part and an opaque cursor, with which it asks for the next one.

A cursor is encrypted, and holds for the same tool, the same other arguments and the same caller only: it opens no row
that these do not open. Without Redis it ends with the process.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Generic, NoReturn, TypeVar

from pydantic import BaseModel, Field

from .calls.running import owner, running_call
from .mcp import sdk
from .sinks.errors import InvalidInput

_Item = TypeVar("_Item")

Cursor = Annotated[
    str | None, Field(max_length=512, description="The next_cursor of the page before; leave it out for the first page")
]
"""The type of the argument, which must have the name `cursor`: `cursor: Cursor = None`."""


class Page(BaseModel, Generic[_Item]):
    """A part of a list."""

    items: list[_Item]
    next_cursor: str | None = Field(default=None, description="Ask for the next page with it. None: this is the last")


def paginate(items: Sequence[_Item], cursor: str | None, *, size: int = 50) -> Page[_Item]:
    """Return the page of a list that the cursor stands for.

    Args:
        items: the whole list, in the same order every time.
        cursor: the tool's argument `cursor`.
        size: items on one page.

    Raises:
        InvalidInput: if the cursor is not of this tool, these arguments and this caller.
    """
    offset = offset_of(cursor)
    return page(items[offset : offset + size + 1], offset, size=size)


def offset_of(cursor: str | None) -> int:
    """Return how many rows the pages before have shown, for the `OFFSET` of a query.

    Raises:
        InvalidInput: if the cursor is not of this tool, these arguments and this caller.
    """
    if cursor is None:
        return 0
    try:
        binding, offset = json.loads(running_call().keeping.codec.unseal(cursor))
    except (sdk.InvalidRequestState, ValueError):
        _unknown_cursor()
    return int(offset) if binding == _binding() else _unknown_cursor()


def page(rows: Sequence[_Item], offset: int, *, size: int = 50) -> Page[_Item]:
    """Return a page of rows that a query has found.

    Args:
        rows: the rows from `offset` on, at least `size + 1` of them if there are that many (`LIMIT`).
        offset: as `offset_of` returned it.
        size: rows on one page.
    """
    following = None
    if len(rows) > size:
        following = running_call().keeping.codec.seal(json.dumps([_binding(), offset + size]).encode())
    return Page(items=list(rows[:size]), next_cursor=following)


def _binding() -> str:
    call = running_call()
    others = {name: value for name, value in call.arguments.items() if name != "cursor"}
    return owner("cursor", call.tool, others)


def _unknown_cursor() -> NoReturn:
    raise InvalidInput(
        "this cursor is unknown: it is of another call. Leave it out, and keep the other arguments for every page"
    )
