"""Counting who may still ask: the generic cell rate algorithm (GCRA), in memory or, by throttled-py, in Redis.

In memory, the buckets live in a least-recently-used table of fixed size. With Redis all processes share them, and each
place is taken by one atomic call; while Redis is away each process counts by itself, with its part of the quota, unless
told otherwise. Never is that a reason for a 5xx.
"""

import math
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from ..replicas.connection import RedisAway, SharedRedis

if TYPE_CHECKING:  # with its Redis client it takes a third of the start, and in memory nobody needs it
    from throttled.asyncio import Throttled, rate_limiter

OnOutage = Literal["local", "closed", "open"]
_MOST_KEYS = 25_000
_TRY_AGAIN = 5  # seconds; what a caller is told who is refused because Redis is away


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
        redis: shares the buckets between processes.
        on_outage: while Redis is away count here (`local`), refuse everybody (`closed`) or nobody (`open`).
        processes: how many share the quota; while Redis is away each has its part.
    """

    def __init__(
        self,
        name: str,
        *,
        per_minute: int,
        burst: int,
        max_keys: int = _MOST_KEYS,
        redis: SharedRedis | None = None,
        on_outage: OnOutage = "local",
        processes: int = 1,
    ) -> None:
        self.per_minute = per_minute
        self.burst = burst
        self._redis = redis
        self._on_outage = on_outage
        self._local = _Buckets(60 / max(1, per_minute // processes), max(1, burst // processes), max_keys)
        if redis is not None:
            self._shared = _shared_buckets(redis, name, per_minute, burst)

    async def hit(self, key: str, places: int = 1) -> Decision:
        """Take places in the bucket of `key`, all or none; never more than it holds, but for one."""
        places = max(1, min(places, self.burst - 1))
        if self._redis is not None:
            try:
                result = await self._redis.ask(lambda _: self._shared.limit(key, places))
                return _decision(result.state, not result.limited, result.state.retry_after)
            except RedisAway:
                if self._on_outage == "closed":
                    return Decision(allowed=False, remaining=0, reset=_TRY_AGAIN, retry_after=_TRY_AGAIN)
                if self._on_outage == "open":
                    return Decision(allowed=True, remaining=self.burst, reset=0, retry_after=0)
        return self._local.decide(key, places)

    async def peek(self, key: str) -> Decision:
        """Say whether a place is left, without taking it."""
        if self._redis is not None:
            with suppress(RedisAway):
                state = await self._redis.ask(lambda _: self._shared.peek(key))
                # The library's own `retry_after` is that of a request already refused; here none has been made.
                wait = state.reset_after - (state.limit - 1) * 60 / self.per_minute
                return _decision(state, state.remaining > 0, wait)
        return self._local.decide(key, 0)


class LimiterFactory(Protocol):
    """Makes limiters that are alike in where they count."""

    def __call__(self, name: str, *, per_minute: int, burst: int, max_keys: int = _MOST_KEYS) -> RateLimiter: ...


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


def _shared_buckets(redis: SharedRedis, name: str, per_minute: int, burst: int) -> "Throttled":
    from throttled.asyncio import RateLimiterType, Throttled, rate_limiter, store  # noqa: PLC0415

    made = store.RedisStore()
    # There is no public way to hand the library a client; its own would be a further pool for every limiter.
    made._backend._client = cast(Any, redis.client)
    return Throttled(
        using=RateLimiterType.GCRA.value,
        quota=rate_limiter.per_min(per_minute, burst=burst),
        store=made,
        key_prefix=redis.name("rate_limit", name),
    )


def _decision(state: "rate_limiter.RateLimitState", allowed: bool, wait: float) -> Decision:
    retry_after = 0 if allowed else max(1, math.ceil(wait))
    return Decision(allowed, state.remaining, math.ceil(state.reset_after), retry_after)
