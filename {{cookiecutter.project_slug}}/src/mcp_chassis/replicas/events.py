"""Security events of all replicas: a stream in Redis, of bounded length, that each of them serves.

Recording does not wait: events are written together every quarter of a second. While Redis is unavailable the newest
are kept. A write whose answer was lost is repeated: an event may be there twice, but none is lost.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from .connection import RedisUnavailable, SharedRedis

_KEPT = 10_000  # events in the stream, approximately
_MAX_WAITING = 1000  # events
_BATCH = 200  # events
_WRITE_SECONDS = 0.25


class SharedEvents:
    """Args:
    redis: where they are kept.
    replica: the name of this one, which each of its events gets.
    """

    def __init__(self, redis: SharedRedis, replica: str) -> None:
        self._redis = redis
        self._replica = replica
        self._stream, self._total = redis.name("events"), redis.name("events", "total")
        self._waiting: deque[Any] = deque(maxlen=_MAX_WAITING)
        self._writing = asyncio.Lock()

    def add(self, event: Any) -> None:
        """Take an event (a dataclass) to be written. Never waits."""
        self._waiting.append(event)

    async def write(self) -> None:
        """Write what is waiting, every quarter of a second. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what is waiting, as far as Redis is available."""
        async with self._writing:  # in order, and a second caller waits until all is written
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                try:
                    await self._redis.ask(partial(self._append, batch))
                except BaseException as error:
                    # Back to the front; if there is no room for all, the oldest are dropped.
                    self._waiting = deque([*batch, *self._waiting], maxlen=_MAX_WAITING)
                    if isinstance(error, RedisUnavailable):
                        return
                    raise

    async def page(self, limit: int, *, kind: str | None = None, before: str | None = None) -> Mapping[str, Any] | None:
        """Return the newest events of all replicas, newest first; None while Redis is unavailable.

        Args:
            limit: how many.
            kind: of one kind only.
            before: the `next` of the page before this one.
        """
        await self.flush()
        found: list[dict[str, Any]] = []
        last, count = before, limit if kind is None else 1000
        while True:
            answer = await self._redis.ask_or_none(partial(self._read, "+" if last is None else f"({last}", count))
            if answer is None:
                return None
            rows, total = answer
            for last, fields in rows:
                event = json.loads(fields["event"])
                if kind is None or event["event"] == kind:
                    found.append(event | {"id": last, "replica": fields["replica"]})
                    if len(found) == limit:
                        return {"events": found, "totalEvents": total, "next": last}
            if len(rows) < count:
                return {"events": found, "totalEvents": total, "next": None}

    async def _append(self, batch: list[Any], client: Any) -> None:
        async with client.pipeline(transaction=False) as pipeline:
            for event in batch:
                fields = {"event": json.dumps(asdict(event), separators=(",", ":")), "replica": self._replica}
                pipeline.xadd(self._stream, fields, maxlen=_KEPT, approximate=True)
            pipeline.incrby(self._total, sum(event.details.get("count", 1) for event in batch))
            await pipeline.execute()

    async def _read(self, newest: str, count: int, client: Any) -> tuple[list[Any], int]:
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.xrevrange(self._stream, max=newest, count=count)
            pipeline.get(self._total)
            rows, total = await pipeline.execute()
        return rows, int(total or 0)
