"""Single use of confirmations on all replicas: a question is noted when it is asked, and its answer deletes the note.

If Redis has lost the note, the answer counts nowhere and the user is asked again: destructive tools never run twice.
"""

import hashlib
import secrets

from .connection import SharedRedis


class SharedQuestions:
    """Args:
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
