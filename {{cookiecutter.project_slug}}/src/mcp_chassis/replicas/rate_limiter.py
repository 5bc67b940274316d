"""Rate limits that all replicas share: each place is taken by one atomic call in Redis (throttled-py, GCRA).

While Redis is unavailable each process counts its part of the quota, unless configured otherwise; there is no 5xx.
"""

import math
from typing import TYPE_CHECKING, Any, Literal, cast

from ..limits.rate_limiter import MAX_KEYS, Decision, RateLimiter
from .connection import RedisUnavailable, SharedRedis

if TYPE_CHECKING:  # with its Redis client it takes a third of the start
    from throttled.asyncio import Throttled, rate_limiter

OnOutage = Literal["local", "closed", "open"]
_RETRY_SECONDS = 5  # for callers that are refused because Redis is unavailable


class SharedRateLimiter(RateLimiter):
    """A sustained rate with a burst, for each key, over all processes.

    Args:
        name, per_minute, burst, max_keys: as of `RateLimiter`, for all processes together.
        redis: holds the buckets.
        on_outage: while Redis is unavailable count here (`local`), refuse every caller (`closed`) or none (`open`).
        processes: how many share the quota; while Redis is unavailable each has its part.
    """

    def __init__(
        self,
        name: str,
        *,
        per_minute: int,
        burst: int,
        max_keys: int = MAX_KEYS,
        redis: SharedRedis,
        on_outage: OnOutage = "local",
        processes: int = 1,
    ) -> None:
        super().__init__(
            name, per_minute=max(1, per_minute // processes), burst=max(1, burst // processes), max_keys=max_keys
        )
        self.per_minute, self.burst = per_minute, burst
        self._redis = redis
        self._on_outage = on_outage
        self._shared = _shared_buckets(redis, name, per_minute, burst)

    async def hit(self, key: str, places: int = 1) -> Decision:
        """Take places in the bucket of `key`, all or none; never more than it holds, but for one."""
        wanted = max(1, min(places, self.burst - 1))
        try:
            result = await self._redis.ask(lambda _: self._shared.limit(key, wanted))
        except RedisUnavailable:
            if self._on_outage == "closed":
                return Decision(allowed=False, remaining=0, reset=_RETRY_SECONDS, retry_after=_RETRY_SECONDS)
            if self._on_outage == "open":
                return Decision(allowed=True, remaining=self.burst, reset=0, retry_after=0)
            return await super().hit(key, places)
        return _decision(result.state, not result.limited, result.state.retry_after)

    async def peek(self, key: str) -> Decision:
        """Return whether a place is left, without taking it."""
        try:
            state = await self._redis.ask(lambda _: self._shared.peek(key))
        except RedisUnavailable:
            return await super().peek(key)
        # The library's own `retry_after` is that of a request already refused; here none has been made.
        wait = state.reset_after - (state.limit - 1) * 60 / self.per_minute
        return _decision(state, state.remaining > 0, wait)


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
