"""Addresses that have sent a wrong credential: a stream in Redis that every replica follows once a second.

So no request waits for Redis to learn whether an address has failed. Until a replica has read of an address, it answers
one wrong credential of it with 401.
"""

import time
from collections.abc import Callable
from typing import Any

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
        self._heard: Callable[[str], None] = lambda _: None

    async def tell(self, address: str) -> None:
        """Tell all replicas of an address, if Redis is available."""
        await self._redis.ask_or_none(
            lambda client: client.xadd(self._name, {"address": address}, maxlen=_KEPT, approximate=True)
        )

    def follow(self, heard: Callable[[str], None]) -> None:
        """Call `heard` with each address that a replica tells of."""
        self._heard = heard

    async def sync(self) -> None:
        """Read what is new.

        Raises:
            RedisAway: if Redis is unavailable.
        """
        rows: Any = await self._redis.ask(lambda client: client.xread({self._name: self._place}, count=_BATCH))
        for _, entries in rows:
            for self._place, fields in entries:
                self._heard(fields["address"])
