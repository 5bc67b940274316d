"""Values that tools keep between calls (`mcp_chassis.handles`), in Redis: encrypted, and bounded per caller and in all.

The bounds are kept without a transaction: replicas that write at the same time may exceed them by a few.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..calls.running import MAX_HANDLES, MAX_PER_CALLER, HandleStore
from ..handles import MAX_TTL
from ..mcp import sdk
from .connection import RedisUnavailable, SharedRedis


class SharedHandles(HandleStore):
    """Args:
    redis: where the values are.
    keys: the first seals them, all open them.
    """

    def __init__(self, redis: SharedRedis, keys: Sequence[bytes]) -> None:
        self._redis = redis
        self._codec = sdk.RequestStateSecurity(keys=keys).codec
        self._all = redis.name("handles")

    async def put(self, owner: str, name: str, text: str, ttl: float) -> None:
        own, place = self._redis.name("handles", owner), f"{owner}:{name}"
        sealed = self._codec.seal(f"{place}:{text}".encode())

        async def write(client: Any) -> bool:
            now = time.time()
            async with client.pipeline() as pipeline:
                for index in (self._all, own):
                    pipeline.zremrangebyscore(index, 0, now)
                pipeline.zcard(self._all)
                pipeline.zrange(own, 0, -MAX_PER_CALLER)
                *_, number, surplus = await pipeline.execute()
            if number - len(surplus) >= MAX_HANDLES:
                return False
            async with client.pipeline() as pipeline:
                for dropped in surplus:
                    pipeline.delete(self._name(dropped)).zrem(self._all, dropped).zrem(own, dropped)
                for index in (self._all, own):
                    pipeline.zadd(index, {place: now + ttl}).expire(index, round(MAX_TTL))
                await pipeline.set(self._name(place), sealed, px=round(ttl * 1000)).execute()
            return True

        if not await self._ask(write):
            raise sdk.ToolError("The server cannot keep anything more right now. Try again later.")

    async def get(self, owner: str, name: str) -> str | None:
        place = f"{owner}:{name}"
        sealed = await self._ask(lambda client: client.get(self._name(place)))
        if sealed is None:
            return None
        try:
            found, _, text = self._codec.unseal(sealed).decode().partition(f"{place}:")
        except sdk.InvalidRequestState:
            return None  # sealed with a secret that is no longer in STATE_SECRET
        return text if not found else None  # else it was moved there from another place

    async def _ask(self, question: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            return await self._redis.ask(question)
        except RedisUnavailable:
            raise sdk.ToolError("What is kept between calls cannot be reached right now. Try again later.") from None

    def _name(self, place: str) -> str:
        return self._redis.name("handle", place)
