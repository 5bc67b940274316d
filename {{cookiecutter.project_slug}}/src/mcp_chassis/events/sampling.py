"""Bounds what repeated refusals write: of one caller and cause the first ten in a minute one by one, then a count.

One caller has at most 20 causes in a minute, and all callers together 500 groups; what goes beyond them is counted
together. So neither a caller that varies its requests nor one with many addresses fills a disk.
"""

import asyncio
import contextvars
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from ..limits.client_address import client_key

_Item = TypeVar("_Item")

PERIOD = 60.0  # seconds
MAX_SINGLE = 10  # of one group in a period
_MAX_CAUSES = 20  # groups of one caller in a period
_MAX_GROUPS = 500


@dataclass(slots=True)
class _Group(Generic[_Item]):
    """The items of one caller and one cause in one period."""

    until: float
    single: int = 0
    merged: int = 0
    rest: _Item | None = None  # the newest of those that are merged


class Sampler(Generic[_Item]):
    """Decides what is written at once, and writes the counts when a period is over.

    Args:
        write: writes an item that stands for so many.
    """

    def __init__(self, write: Callable[[_Item, int], None]) -> None:
        self._write = write
        self._groups: OrderedDict[tuple[object, ...], _Group[_Item]] = OrderedDict()  # the oldest first
        self._causes: Counter[object] = Counter()

    def take(self, caller: str, cause: tuple[object, ...], item: _Item) -> tuple[int, _Item | None]:
        """Write an item, or count it. Beyond the bounds, items are grouped by the first part of `cause` only.

        Returns:
            How many have been counted, 0 if it was written; and the item that it takes the place of.
        """
        self.flush(everything=False)
        key: tuple[object, ...] = (client_key(caller), *cause)
        if key not in self._groups and self._causes[key[0]] >= _MAX_CAUSES:
            key = (key[0], cause[0])
        if key not in self._groups and len(self._groups) >= _MAX_GROUPS:
            key = (None, cause[0])
        if (group := self._groups.get(key)) is None:
            group = self._groups[key] = _Group(time.monotonic() + PERIOD)
            self._causes[key[0]] += 1
        if group.single < MAX_SINGLE:
            group.single += 1
            self._write(item, 1)
            return 0, None
        group.merged += 1
        replaced, group.rest = group.rest, item
        if replaced is None:
            with suppress(RuntimeError):  # without an event loop the next item, or `flush`, writes it
                asyncio.get_running_loop().call_later(PERIOD, partial(self.flush, everything=False))
        return group.merged, replaced

    def flush(self, *, everything: bool = True) -> None:
        """Write the counts of the periods that are over, or all."""
        now = time.monotonic()
        while self._groups and (everything or next(iter(self._groups.values())).until <= now):
            (caller, *_), group = self._groups.popitem(last=False)
            self._causes[caller] -= 1
            if not self._causes[caller]:
                del self._causes[caller]
            if group.rest is not None:  # not as a line of the request that happens to be served
                contextvars.Context().run(self._write, group.rest, group.merged)
