"""What replicas know of each other: open questions, failed addresses, revoked keys and the use of keys.

While Redis is unavailable `sync` and `add` raise `RedisUnavailable`; the others fall back to what this replica knows.
"""

import hashlib
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..limits.lockout import MAX_ADDRESSES
from .connection import SharedRedis

_KEPT = 100_000  # addresses in the stream, approximately
_BATCH = 10_000  # addresses
_SINCE = 600  # seconds back that a new replica begins to read


class SharedQuestions:
    """Single use of confirmations: a question is noted when it is asked, and its answer deletes the note.

    If Redis has lost the note, the answer counts nowhere and the user is asked again: no destructive tool runs twice.

    Args:
        redis: where open questions are noted, by the digest of their secret name.
        lifetime: seconds that a question stays open.
    """

    def __init__(self, redis: SharedRedis, *, lifetime: float) -> None:
        self._redis = redis
        self._lifetime = round(lifetime * 1000)

    async def put(self) -> str | None:
        """Return the secret name of a new question; None while Redis is unavailable."""
        state = secrets.token_urlsafe(16)
        noted = await self._redis.ask_or_none(lambda client: client.set(self._name(state), 1, px=self._lifetime))
        return state if noted else None

    async def answer(self, state: str) -> bool | None:
        """Close a question. Return whether it was open; None while Redis is unavailable."""
        deleted = await self._redis.ask_or_none(lambda client: client.delete(self._name(state)))
        return None if deleted is None else bool(deleted)

    def _name(self, state: str) -> str:
        return self._redis.name("question", hashlib.sha256(state.encode()).hexdigest())


class SharedFailures:
    """Addresses that have sent a wrong credential: a stream in Redis that every replica follows once a second.

    So no request waits for Redis to learn whether an address has failed. Until a replica has read of an address, it
    answers one wrong credential of it with 401.
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
        """Read what is new."""
        rows: Any = await self._redis.ask(lambda client: client.xread({self._name: self._place}, count=_BATCH))
        for _, entries in rows:
            for self._place, fields in entries:
                self._guessed_at.pop(fields["address"], None)
                self._guessed_at[fields["address"]] = time.monotonic()
                if len(self._guessed_at) > MAX_ADDRESSES:
                    self._guessed_at.popitem(last=False)


class KeyUse:
    """The day on which each key was last used on any replica: one write a day for each key and replica.

    Args:
        redis: carries the days.
        used: returns those of this replica.
    """

    def __init__(self, redis: SharedRedis, used: Callable[[], Mapping[str, str]] = dict) -> None:
        self._redis = redis
        self._name = redis.name("key_use")
        self._used = used
        self._written: dict[str, str] = {}

    async def sync(self) -> None:
        """Write what is new, unless another replica has noted a later day."""
        new = {key: day for key, day in self._used().items() if self._written.get(key) != day}
        if new:
            known = await self.days()
            later: dict[Any, Any] = {key: day for key, day in new.items() if day > known.get(key, "")}
            if later:
                await self._redis.ask(lambda client: client.hset(self._name, mapping=later))
            self._written |= new

    async def days(self) -> dict[str, str]:
        """Return the days of all replicas, by the ids of the keys."""
        found: Any = await self._redis.ask(lambda client: client.hgetall(self._name))
        return dict(found)


class Revocations:
    """Ids of revoked keys: a set that only grows, in Redis and in every replica.

    Each replica adds what it knows: a revocation survives a Redis that loses its data, if one replica has read it.

    Args:
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
        """Read and write what is new."""
        known = self._ids.union(self._own())
        shared = frozenset(map(str, await self._redis.ask(lambda client: client.smembers(self._name))))
        self._ids = known | shared
        if missing := known - shared:
            await self.add(*missing)

    async def add(self, *ids: str) -> None:
        """Revoke keys on all replicas, within two seconds."""
        await self._redis.ask(lambda client: client.sadd(self._name, *ids))
