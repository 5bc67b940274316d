"""Keys that were revoked anywhere: a set that only grows, in Redis and in every replica.

Each replica adds what it knows and remembers what it hears. So a revocation outlives a Redis that forgets, as long as
one replica has heard of it.
"""

from collections.abc import Callable, Iterable

from .connection import SharedRedis


class Revocations:
    """Args:
    redis: how replicas hear of each other's.
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
        """Tell and hear what is new.

        Raises:
            RedisAway: if that cannot be done now.
        """
        known = frozenset(self._own()) | self._ids
        heard = frozenset(map(str, await self._redis.ask(lambda client: client.smembers(self._name))))
        self._ids = known | heard
        if unheard := known - heard:
            await self.add(*unheard)

    async def add(self, *ids: str) -> None:
        """Revoke keys on all replicas, within a second or two.

        Raises:
            RedisAway: if that cannot be done now.
        """
        await self._redis.ask(lambda client: client.sadd(self._name, *ids))
