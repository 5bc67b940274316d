"""Addresses that have sent a wrong credential: a stream in Redis that every replica follows once a second.

So no request waits for Redis to learn whether an address has failed. Until a replica has read of an address, it answers
one wrong credential of it with 401.
"""

import math
import time
from collections import OrderedDict
from typing import Any

from ..limits.lockout import MAX_ADDRESSES
from .connection import SharedRedis

_KEPT = 100_000  # addresses in the stream, approximately
_BATCH = 10_000  # addresses
_SINCE = 600  # seconds back that a new replica begins to read


class SharedFailures:
    """Args:
    redis: carries the addresses.
    """

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        self._name = redis.name("failed_addresses")
        self._place = f"{round((time.time() - _SINCE) * 1000)}-0"
        self._guessed_at: OrderedDict[str, float] = OrderedDict()

    async def tell(self, address: str) -> None:
        """Tell all replicas of an address, if Redis is available."""
        await self._redis.ask_or_none(
            lambda client: client.xadd(self._name, {"address": address}, maxlen=_KEPT, approximate=True)
        )

    def guessed_at(self, address: str) -> float:
        """Return when this replica read of an address, by `time.monotonic()`; minus infinity if it has not."""
        return self._guessed_at.get(address, -math.inf)

    async def sync(self) -> None:
        """Read what is new.

        Raises:
            RedisAway: if Redis is unavailable.
        """
        rows: Any = await self._redis.ask(lambda client: client.xread({self._name: self._place}, count=_BATCH))
        for _, entries in rows:
            for self._place, fields in entries:
                self._guessed_at.pop(fields["address"], None)
                self._guessed_at[fields["address"]] = time.monotonic()
                if len(self._guessed_at) > MAX_ADDRESSES:
                    self._guessed_at.popitem(last=False)
