"""Rate limits by the generic cell rate algorithm (GCRA), in memory: a least-recently-used table of fixed size."""

import math
import time
from collections import OrderedDict
from typing import NamedTuple, Protocol

MAX_KEYS = 25_000


class Decision(NamedTuple):
    """The answer to one request for places."""

    allowed: bool
    remaining: int  # requests left right now
    reset: int  # seconds until the whole burst is available again
    retry_after: int  # seconds until the next request will be allowed; 0 if this one was


class RateLimiter:
    """A sustained rate with a burst, for each key, counted in this process.

    For each key one number is kept: when its bucket will be full again. That costs a tenth of what a general library's
    table in memory does, and every request pays it.

    Args:
        name: tells the buckets of several limiters apart, where they are shared.
        per_minute: sustained requests a minute.
        burst: requests that may come at once after a pause.
        max_keys: buckets kept in memory, about 420 bytes each; beyond that the least recently used is forgotten.
    """

    def __init__(self, name: str, *, per_minute: int, burst: int, max_keys: int = MAX_KEYS) -> None:
        self.per_minute = per_minute
        self.burst = burst
        self._seconds_per_place = 60 / per_minute
        self._capacity = burst  # of this process; a limiter that is shared has another `burst`
        self._max_keys = max_keys
        self._full_at: OrderedDict[str, float] = OrderedDict()

    async def hit(self, key: str, places: int = 1) -> Decision:
        """Take places in the bucket of `key`, all or none. At most one less than the burst is taken, at least one."""
        return self._decide(key, max(1, places))

    async def peek(self, key: str) -> Decision:
        """Return whether a place is left, without taking it."""
        return self._decide(key, 0)

    def _decide(self, key: str, places: int) -> Decision:
        wanted = max(1, min(places, self._capacity - 1))
        now = time.monotonic()
        # Rounded to millionths of a place: sums of such fractions are off by a little.
        missing = round(max(0.0, self._full_at.get(key, now) - now) / self._seconds_per_place, 6)
        allowed = missing + wanted <= self._capacity
        if allowed and places:
            missing += wanted
            self._full_at[key] = now + missing * self._seconds_per_place
            if len(self._full_at) > self._max_keys:
                self._full_at.popitem(last=False)
        if key in self._full_at:
            self._full_at.move_to_end(key)
        wait = 0 if allowed else math.ceil((missing + wanted - self._capacity) * self._seconds_per_place)
        reset = math.ceil(missing * self._seconds_per_place)
        return Decision(allowed, math.floor(self._capacity - missing), reset, wait)


class LimiterFactory(Protocol):
    """Makes limiters that all count in the same place."""

    def __call__(self, name: str, *, per_minute: int, burst: int, max_keys: int = MAX_KEYS) -> RateLimiter: ...
