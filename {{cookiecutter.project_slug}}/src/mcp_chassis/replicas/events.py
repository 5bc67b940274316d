"""Security events of all replicas: a stream in Redis, of bounded length, that each of them serves.

Nobody waits for a write: events are put aside and written together a moment later. While Redis is away the newest are
kept. A write whose answer is lost is repeated, so that an event may be there twice, but is not lost for that.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, TypedDict

from .connection import RedisAway, SharedRedis

_KEPT = 10_000  # events in the stream, more or less
_PUT_ASIDE = 1000  # events that wait to be written
_BATCH = 200
_WRITE_EVERY = 0.25  # seconds


class Page(TypedDict):
    """Some events, newest first."""

    events: list[dict[str, Any]]
    totalEvents: int
    next: str | None


class SharedEvents:
    """Args:
    redis: where they are kept.
    replica: the name of this one, which each of its events gets.
    """

    def __init__(self, redis: SharedRedis, replica: str) -> None:
        self._redis = redis
        self._replica = replica
        self._stream, self._total = redis.name("events"), redis.name("events", "total")
        self._waiting: deque[Any] = deque(maxlen=_PUT_ASIDE)
        self._writing = asyncio.Lock()

    def add(self, event: Any) -> None:
        """Put an event (a dataclass) aside to be written. Never waits."""
        self._waiting.append(event)

    async def write(self) -> None:
        """Write what was put aside, every quarter of a second. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(_WRITE_EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Write what was put aside, as far as Redis is there."""
        async with self._writing:  # in order, and whoever comes later waits until all is there
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                try:
                    await self._redis.ask(partial(self._append, batch))
                except BaseException as error:
                    # Back to the front; if there is no room for all, the oldest go.
                    self._waiting = deque([*batch, *self._waiting], maxlen=_PUT_ASIDE)
                    if isinstance(error, RedisAway):
                        return
                    raise

    async def page(self, limit: int, *, kind: str | None = None, before: str | None = None) -> Page | None:
        """Return the newest events of all replicas; None if only this process's own can be had now.

        Args:
            limit: how many.
            kind: of one kind only.
            before: the `next` of the page before this one.
        """
        try:
            return await self._page(limit, kind, before)
        except RedisAway:
            return None

    async def _page(self, limit: int, kind: str | None, before: str | None) -> Page:
        await self.flush()
        found: list[dict[str, Any]] = []
        last = before
        count = limit if kind is None else 1000
        while True:
            rows, total = await self._redis.ask(partial(self._read, "+" if last is None else f"({last}", count))
            for place, fields in rows:
                last = place
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
                text = json.dumps(asdict(event), separators=(",", ":"))
                fields: Mapping[str, str] = {"event": text, "replica": self._replica}
                pipeline.xadd(self._stream, fields, maxlen=_KEPT, approximate=True)
            pipeline.incrby(self._total, sum(event.details.get("count", 1) for event in batch))
            await pipeline.execute()

    async def _read(self, newest: str, count: int, client: Any) -> tuple[list[Any], int]:
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.xrevrange(self._stream, max=newest, count=count)
            pipeline.get(self._total)
            rows, total = await pipeline.execute()
        return rows, int(total or 0)
