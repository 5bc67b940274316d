"""Counting who may still ask: GCRA from throttled-py behind a small seam.

In memory, the buckets live in a least-recently-used table of fixed size. With a Redis URL all processes share them;
while Redis is away each process counts by itself, so a limit is loosened but never gone, and never a reason for a 5xx.
"""

import math
import time
from dataclasses import dataclass, replace

import structlog
from throttled.asyncio import RateLimiterType, Throttled, rate_limiter, store
from throttled.exceptions import StoreUnavailableError

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
        self._quota = rate_limiter.per_min(per_minute, burst=burst)
        self._name = name
        self._local = self._counter(store.MemoryStore(options={"MAX_SIZE": max_keys}))
        self._shared = self._counter(_redis_store(redis_url)) if redis_url else None
        self._shared_again_at = 0.0

    async def hit(self, key: str) -> Decision:
        """Take one place in the bucket of `key`."""
        result = await self._counted(key)
        return _decision(not result.limited, result.state)

    async def peek(self, key: str) -> Decision:
        """Say whether a place is left, without taking it."""
        state = await self._local.peek(key)
        # The library's own `retry_after` is that of a request already refused; here none has been made.
        wait = state.reset_after - (self._quota.burst - 1) * 60 / self.per_minute
        return _decision(state.remaining > 0, replace(state, retry_after=max(0.0, wait)))

    def _counter(self, where: store.BaseStore) -> Throttled:
        return Throttled(
            using=RateLimiterType.GCRA.value, quota=self._quota, store=where, key_prefix=f"rate_limit:{self._name}"
        )

    async def _counted(self, key: str) -> rate_limiter.RateLimitResult:
        if self._shared is not None and time.monotonic() >= self._shared_again_at:
            try:
                return await self._shared.limit(key)
            except StoreUnavailableError as error:
                self._shared_again_at = time.monotonic() + _REDIS_COOL_DOWN
                log.error("Redis is not reachable: counting in this process only", cause=type(error.__cause__).__name__)
        return await self._local.limit(key)


def _redis_store(url: str) -> store.BaseStore:
    options = {
        "SOCKET_TIMEOUT": _REDIS_TIMEOUT,
        "SOCKET_CONNECT_TIMEOUT": _REDIS_TIMEOUT,
        # Callers beyond these wait their turn; the plain pool would raise, which looks like a Redis that is away.
        "CONNECTION_POOL_CLASS": "redis.asyncio.BlockingConnectionPool",
        "CONNECTION_POOL_KWARGS": {"max_connections": 8, "timeout": _REDIS_TIMEOUT},
    }
    return store.RedisStore(server=url, options=options)


def _decision(allowed: bool, state: rate_limiter.RateLimitState) -> Decision:
    return Decision(
        allowed=allowed,
        remaining=state.remaining,
        reset=math.ceil(state.reset_after),
        retry_after=0 if allowed else max(1, math.ceil(state.retry_after)),
    )
