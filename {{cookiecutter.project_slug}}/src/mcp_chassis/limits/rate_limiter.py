"""Rate limits by the generic cell rate algorithm (GCRA), in memory: a least-recently-used table of fixed size."""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

MAX_KEYS = 25_000


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one request for a place."""

    allowed: bool
    remaining: int
    """Requests left right now."""
    reset: int
    """Seconds until the whole burst is available again."""
    retry_after: int
    """Seconds until the next request will be allowed; 0 if this one was."""


class RateLimiter:
    """A sustained rate with a burst, for each key.

    Args:
        name: tells the buckets of several limiters apart.
        per_minute: sustained requests a minute.
        burst: requests that may come at once after a pause.
        max_keys: buckets kept in memory, about 420 bytes each; beyond that the longest unused is forgotten.
    """

    def __init__(
        self,
        name: str,
        *,
        per_minute: int,
        burst: int,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self.per_minute = per_minute
        self.burst = burst
        self._buckets = _Buckets(60 / per_minute, burst, max_keys)

    async def hit(self, key: str, places: int = 1) -> Decision:
        """Take places in the bucket of `key`, all or none; never more than it holds, but for one."""
        return self._buckets.decide(key, max(1, places))

    async def peek(self, key: str) -> Decision:
        """Say whether a place is left, without taking it."""
        return self._buckets.decide(key, 0)


class LimiterFactory(Protocol):
    """Makes limiters that are alike in where they count."""

    def __call__(self, name: str, *, per_minute: int, burst: int, max_keys: int = MAX_KEYS) -> RateLimiter: ...


class _Buckets:
    """Counts in this process: a tenth of what the library's table in memory costs, and every request pays it.

    For each key one number is kept: when its bucket will be full again.
    """

    def __init__(self, interval: float, burst: int, max_keys: int) -> None:
        self._interval = interval  # seconds in which one place comes back
        self._burst = burst
        self._max_keys = max_keys
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def decide(self, key: str, places: int) -> Decision:
        """Take places, or only look with 0."""
        wanted = max(1, min(places, self._burst - 1))
        now = time.monotonic()
        # Places are counted in whole millionths: sums of such fractions are off by a little.
        missing = round(max(0.0, self._full_at.get(key, now) - now) / self._interval, 6)
        allowed = missing + wanted <= self._burst
        if allowed and places:
            missing += wanted
            self._full_at[key] = now + missing * self._interval
            if len(self._full_at) > self._max_keys:
                self._full_at.popitem(last=False)
        if key in self._full_at:
            self._full_at.move_to_end(key)
        wait = 0 if allowed else max(1, math.ceil((missing + wanted - self._burst) * self._interval))
        return Decision(allowed, math.floor(self._burst - missing), math.ceil(missing * self._interval), wait)
