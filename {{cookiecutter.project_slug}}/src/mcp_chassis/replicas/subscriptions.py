"""Change notifications for the clients of every replica: the SDK's `SubscriptionBus` over pub/sub.

Nothing is repeated: a change during an outage reaches this replica's clients only. Clients know that a stream may miss
something, and fetch again (MCP 2026-07-28, `subscriptions/listen`).
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import structlog

from ..mcp import sdk
from .connection import SharedRedis

log = structlog.get_logger("shared")

_KINDS: dict[str, Callable[..., sdk.ServerEvent]] = {
    kind.__name__: kind
    for kind in (sdk.ToolsListChanged, sdk.PromptsListChanged, sdk.ResourcesListChanged, sdk.ResourceUpdated)
}


class SharedBus(sdk.InMemorySubscriptionBus):
    """Args:
    redis: carries changes to the other replicas.
    replica: the name of this one.
    """

    def __init__(self, redis: SharedRedis, replica: str) -> None:
        super().__init__()
        self._redis = redis
        self._replica = replica
        self._channel = redis.channel("changes")

    async def publish(self, event: sdk.ServerEvent) -> None:
        """Tell every subscriber: here at once, elsewhere if Redis is available."""
        await super().publish(event)
        message = json.dumps([self._replica, type(event).__name__, vars(event)])
        await self._redis.ask_or_none(lambda client: client.publish(self._channel, message))

    async def receive(self) -> None:
        """Pass on what other replicas publish. Runs until it is cancelled."""
        while True:
            try:
                async with self._redis.client.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(self._channel)
                    recoveries = self._redis.recoveries
                    while recoveries == self._redis.recoveries:
                        message = await channel.get_message(timeout=1.0)
                        if message is not None:
                            await self._pass_on(message["data"])
            except Exception as error:  # the heartbeat has told the operator
                log.debug("not subscribed", cause=type(error).__name__)
                await asyncio.sleep(1.0)

    async def _pass_on(self, data: Any) -> None:
        try:
            replica, kind, facts = json.loads(data)
            event = _KINDS[kind](**facts)
        except (ValueError, TypeError, KeyError):
            log.warning("a message of another version on the channel was left out")
            return
        if replica != self._replica:
            await super().publish(event)
