"""Long streams, `subscriptions/listen`: limited per caller and in all, and in age.

A stream ends with its credential: when the key is revoked, the token expires or the scopes change, it is closed as if
it were too old, and the client that listens again gets a 401. A change of the keys file is noticed within a second, so
the stream ends within two. The streams of running calls end as well, see `endpoint.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mcp import MCPError, types

from ..auth.principal import credential_is_valid
from ..calls.record import caller
from ..counters import counted_stream
from ..events.log import EventLog
from . import sdk

_CHECK_SECONDS = 0.5  # between two checks of a stream's credential


@dataclass(kw_only=True)
class ListenStreams:
    """Serves `subscriptions/listen`, each stream by its own handler of the SDK, which can be closed alone.

    Args:
        bus: where the events come from.
        events: where refusals are noted.
        max_streams: open at the same time.
        max_per_caller: of them, of one caller.
        max_age: seconds after which a stream is ended with a result. Clients listen again.
    """

    bus: sdk.SubscriptionBus
    events: EventLog
    max_streams: int
    max_per_caller: int
    max_age: float
    _open: dict[sdk.ListenHandler, str] = field(default_factory=dict)
    _closing: bool = False

    async def __call__(
        self, ctx: sdk.ServerRequestContext[Any, Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one stream.

        Raises:
            MCPError: if the caller, or all callers together, have too many.
        """
        principal = caller()
        if self._closing:
            raise MCPError(types.INTERNAL_ERROR, "The server is stopping. Listen again in a few seconds.")
        held = list(self._open.values()).count(principal)
        if held >= self.max_per_caller or len(self._open) >= self.max_streams:
            self.events.record("rate_limit_exceeded", principal, reason="streams")
            raise MCPError(types.INTERNAL_ERROR, "Too many open streams. Close one, or try again later.")
        handler = sdk.ListenHandler(self.bus)
        self._open[handler] = principal
        loop = asyncio.get_running_loop()
        end = loop.call_later(self.max_age, handler.close)
        is_valid = credential_is_valid.get()
        watch = loop.create_task(_close_with(is_valid, handler)) if is_valid is not None else None
        try:
            with counted_stream("listen"):
                return await handler(ctx, params)
        finally:
            end.cancel()
            if watch is not None:
                watch.cancel()
            del self._open[handler]

    def close(self) -> None:
        """End every stream with its result, and refuse new ones."""
        self._closing = True
        for handler in list(self._open):
            handler.close()


async def _close_with(is_valid: Callable[[], Awaitable[bool]], handler: sdk.ListenHandler) -> None:
    await end_of_credential(is_valid)
    handler.close()


async def end_of_credential(is_valid: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a credential is not valid any more, or cannot be checked."""
    with suppress(Exception):
        while await is_valid():  # noqa: ASYNC110  (keys expire and files change without a signal)
            await asyncio.sleep(_CHECK_SECONDS)
