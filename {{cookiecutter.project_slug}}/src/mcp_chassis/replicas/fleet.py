"""What replicas share, in one object, and the tasks that keep it up to date while the server runs."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from .connection import SharedRedis
from .events import SharedEvents
from .knowledge import KeyUse, Revocations, SharedFailures, SharedQuestions
from .subscriptions import SharedBus


class Fleet:
    """This process as one of several.

    Args:
        redis: the connection.
        question_lifetime: seconds that a user has to confirm a call.
        revoked: returns the ids of keys that this replica knows to be revoked.
        used: returns the day on which this replica was last shown each key, by its id.
        replica: its name in events; by default the container, pod or machine, and the process there.
    """

    def __init__(
        self,
        redis: SharedRedis,
        *,
        question_lifetime: float,
        revoked: Callable[[], Iterable[str]] = tuple,
        used: Callable[[], Mapping[str, str]] = dict,
        replica: str | None = None,
    ) -> None:
        name = replica or f"{socket.gethostname()}-{os.getpid()}"
        self.redis = redis
        self.bus = SharedBus(redis, name)
        self.events = SharedEvents(redis, name)
        self.questions = SharedQuestions(redis, lifetime=question_lifetime)
        self.revocations = Revocations(redis, revoked)
        self.failures = SharedFailures(redis)
        self.key_use = KeyUse(redis, used)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the connection, the subscription, the events and the revocations going."""
        # Before the first request: a key that was revoked elsewhere must not open this replica while it starts.
        with suppress(Exception):
            await self._sync()
        duties = (self.redis.keep(self._sync), self.bus.receive(), self.events.write())
        tasks = {asyncio.ensure_future(duty) for duty in duties}
        try:
            yield
        finally:
            while tasks:  # again, if the client library has taken a cancellation for a failure of the connection
                for task in tasks:
                    task.cancel()
                _, tasks = await asyncio.wait(tasks, timeout=0.5)
            await self.events.flush()
            await self.redis.close()

    async def _sync(self) -> None:
        await self.revocations.sync()
        await self.failures.sync()
        await self.key_use.sync()
