"""Single use of confirmations on all replicas: a question is noted when it is put, and its answer deletes the note.

So an answer counts once wherever it arrives. If Redis has lost its memory meanwhile, it counts nowhere: the person is
asked again, which is better than a destructive tool that runs twice.
"""

import hashlib
import secrets

from .connection import RedisAway, SharedRedis


class SharedQuestions:
    """Args:
    redis: where open questions are noted, by the digest of their secret name.
    lifetime: seconds that a question stays open.
    """

    def __init__(self, redis: SharedRedis, *, lifetime: float) -> None:
        self._redis = redis
        self._lifetime = round(lifetime * 1000)

    async def put(self) -> str | None:
        """Return the secret name of a new question; None while Redis is away."""
        state = secrets.token_urlsafe(16)
        try:
            await self._redis.ask(lambda client: client.set(self._name(state), 1, px=self._lifetime))
        except RedisAway:
            return None
        return state

    async def answer(self, state: str) -> bool | None:
        """Close a question. Return whether it was open; None while Redis is away."""
        try:
            return bool(await self._redis.ask(lambda client: client.delete(self._name(state))))
        except RedisAway:
            return None

    def _name(self, state: str) -> str:
        return self._redis.name("question", hashlib.sha256(state.encode()).hexdigest())
