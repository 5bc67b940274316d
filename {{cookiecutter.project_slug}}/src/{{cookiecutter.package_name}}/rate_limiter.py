"""Counting who may still ask: the generic cell rate algorithm (GCRA), in memory or, by throttled-py, in Redis.

In memory, the buckets live in a least-recently-used table of fixed size. With a Redis URL all processes share them;
while Redis is away each process counts by itself, so a limit is loosened but never gone, and never a reason for a 5xx.
"""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:  # with its Redis client it takes a third of the start, and in memory nobody needs it
    from throttled.asyncio import Throttled, rate_limiter

log = structlog.get_logger("rate_limit")

_REDIS_TIMEOUT = 0.25  # seconds a request may wait for Redis before it is counted locally
_REDIS_COOL_DOWN = 5.0  # seconds before Redis is tried again


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
        redis_url: shares the buckets between processes.
        max_keys: buckets kept in memory, about 420 bytes each; beyond that the longest unused is forgotten.
    """

    def __init__(
        self, name: str, *, per_minute: int, burst: int, redis_url: str | None = None, max_keys: int = 25_000
    ) -> None:
        self.per_minute = per_minute
        self._local = _Buckets(60 / per_minute, burst, max_keys)
        self._shared = _shared_buckets(name, per_minute, burst, redis_url) if redis_url is not None else None
        self._shared_again_at = 0.0

    async def hit(self, key: str) -> Decision:
        """Take one place in the bucket of `key`."""
        if self._shared is not None and time.monotonic() >= self._shared_again_at:
            from throttled.exceptions import StoreUnavailableError  # noqa: PLC0415

            try:
                result = await self._shared.limit(key)
                return _decision(not result.limited, result.state)
            except StoreUnavailableError as error:
                self._shared_again_at = time.monotonic() + _REDIS_COOL_DOWN
                log.error("Redis is not reachable: counting in this process only", cause=type(error.__cause__).__name__)
        return self._local.decide(key, takes=True)

    async def peek(self, key: str) -> Decision:
        """Say whether a place is left, without taking it."""
        return self._local.decide(key, takes=False)


class _Buckets:
    """Counts in this process: a tenth of what the library's table in memory costs, and every request pays it.

    For each key one number is kept: when its bucket will be full again.
    """

    def __init__(self, interval: float, burst: int, max_keys: int) -> None:
        self._interval = interval  # seconds in which one place comes back
        self._burst = burst
        self._max_keys = max_keys
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def decide(self, key: str, *, takes: bool) -> Decision:
        now = time.monotonic()
        # Places are counted in whole millionths: sums of such fractions are off by a little.
        missing = round(max(0.0, self._full_at.get(key, now) - now) / self._interval, 6)
        allowed = missing + 1 <= self._burst
        if allowed and takes:
            missing += 1
            self._full_at[key] = now + missing * self._interval
            if len(self._full_at) > self._max_keys:
                self._full_at.popitem(last=False)
        if key in self._full_at:
            self._full_at.move_to_end(key)
        wait = 0 if allowed else max(1, math.ceil((missing + 1 - self._burst) * self._interval))
        return Decision(allowed, math.floor(self._burst - missing), math.ceil(missing * self._interval), wait)


def _shared_buckets(name: str, per_minute: int, burst: int, url: str) -> "Throttled":
    from throttled.asyncio import RateLimiterType, Throttled, rate_limiter, store  # noqa: PLC0415

    options = {
        "SOCKET_TIMEOUT": _REDIS_TIMEOUT,
        "SOCKET_CONNECT_TIMEOUT": _REDIS_TIMEOUT,
        # Callers beyond these wait their turn; the plain pool would raise, which looks like a Redis that is away.
        "CONNECTION_POOL_CLASS": "redis.asyncio.BlockingConnectionPool",
        "CONNECTION_POOL_KWARGS": {"max_connections": 8, "timeout": _REDIS_TIMEOUT},
    }
    return Throttled(
        using=RateLimiterType.GCRA.value,
        quota=rate_limiter.per_min(per_minute, burst=burst),
        store=store.RedisStore(server=url, options=options),
        key_prefix=f"rate_limit:{name}",
    )


def _decision(allowed: bool, state: "rate_limiter.RateLimitState") -> Decision:
    return Decision(
        allowed=allowed,
        remaining=state.remaining,
        reset=math.ceil(state.reset_after),
        retry_after=0 if allowed else max(1, math.ceil(state.retry_after)),
    )
