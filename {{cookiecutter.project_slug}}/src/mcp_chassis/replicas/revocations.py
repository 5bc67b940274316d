"""Ids of revoked keys: a set that only grows, in Redis and in every replica.

Each replica adds what it knows: a revocation survives a Redis that loses its data, as long as one replica has read it.
"""

from collections.abc import Callable, Iterable

from .connection import SharedRedis


class Revocations:
    """Args:
    redis: carries the ids.
    own: returns the ids that this replica's own key sources call revoked.
    """

    def __init__(self, redis: SharedRedis, own: Callable[[], Iterable[str]] = tuple) -> None:
        self._redis = redis
        self._name = redis.name("revoked_keys")
        self._ids: frozenset[str] = frozenset()
        self._own = own

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._ids

    async def sync(self) -> None:
        """Read and write what is new.

        Raises:
            RedisAway: if Redis is unavailable.
        """
        known = self._ids.union(self._own())
        shared = frozenset(map(str, await self._redis.ask(lambda client: client.smembers(self._name))))
        self._ids = known | shared
        if missing := known - shared:
            await self.add(*missing)

    async def add(self, *ids: str) -> None:
        """Revoke keys on all replicas, within two seconds.

        Raises:
            RedisAway: if Redis is unavailable.
        """
        await self._redis.ask(lambda client: client.sadd(self._name, *ids))
