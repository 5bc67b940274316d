"""Addresses that have sent a wrong credential: a stream in Redis that every replica follows.

So the question whether an address has failed lately costs no request a trip to Redis. A replica that has not heard of
an address yet, for a second at most, answers one wrong credential of it with 401; then it knows by itself.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .connection import RedisAway, SharedRedis

_KEPT = 100_000
_AT_ONCE = 10_000


class SharedFailures:
    """Args:
    redis: how replicas hear of each other's.
    since: how many seconds back a new replica begins to read.
    """

    def __init__(self, redis: SharedRedis, *, since: float = 600) -> None:
        self._redis = redis
        self._name = redis.name("failed_addresses")
        self._place = f"{round((time.time() - since) * 1000)}-0"
        self._heard: Callable[[str], None] = lambda _: None

    async def tell(self, address: str) -> None:
        """Tell all replicas of an address, if that can be done now."""
        with suppress(RedisAway):
            await self._redis.ask(
                lambda client: client.xadd(self._name, {"address": address}, maxlen=_KEPT, approximate=True)
            )

    def follow(self, heard: Callable[[str], None]) -> None:
        """Call `heard` with each address that is told of."""
        self._heard = heard

    async def sync(self) -> None:
        """Hear what is new.

        Raises:
            RedisAway: if that cannot be done now.
        """
        rows: Any = await self._redis.ask(lambda client: client.xread({self._name: self._place}, count=_AT_ONCE))
        for _, entries in rows:
            for place, fields in entries:
                self._place = place
                self._heard(fields["address"])
