"""The last step of the way in: hands a message to the SDK, in the cheapest response mode that serves it.

A JSON response costs the least, but it carries no progress and does not notice that the client has left. So a request
that asks for progress gets a stream, and every other one gets a watcher once it takes longer than a moment.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from starlette.types import Message, Receive, Scope, Send

from ..counters import counted_stream
from ..middleware.request_body import parsed_message
from .fast_path import DirectEntry
from .sdk import Server, StreamableHTTPSessionManager

_WATCH_AFTER = 0.25  # seconds: almost every call is over by then and pays for one timer only

_streams: ContextVar[bool] = ContextVar("streams", default=False)


class SessionManager(StreamableHTTPSessionManager):
    """The SDK's manager, asked for the response mode at every request instead of once, with a shorter way in."""

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Start what requests need, and stop it."""
        self._direct = DirectEntry(self.app)
        lifespan = self.app.lifespan

        @asynccontextmanager
        async def shared(server: Any) -> AsyncIterator[Any]:
            async with lifespan(server) as state:
                self._direct.lifespan_state = state
                yield state

        self.app.lifespan = shared
        _drop_idle_tracing(self.app)
        async with super().run():
            yield

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if _streams.get() or not await self._direct.serve(parsed_message(scope), scope, receive, send):
            await super().handle_request(scope, receive, send)

    @property
    def json_response(self) -> bool:
        """Whether the request being served is answered by one JSON document."""
        return not _streams.get()

    @json_response.setter
    def json_response(self, _: bool) -> None:
        """The SDK's constructor sets a mode for all requests, which is not used."""


def _drop_idle_tracing(server: Server[Any]) -> None:
    """Take out the SDK's spans, a tenth of what a call costs, where no tracer provider is there to record them."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        server.middleware[:] = [one for one in server.middleware if type(one).__name__ != "OpenTelemetryMiddleware"]


class McpEndpoint:
    """The ASGI application behind the MCP endpoint."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = _asks_for_progress(parsed_message(scope)) and _accepts_stream(scope)
        _streams.set(streams)
        if streams:
            with counted_stream("progress"):
                await self._manager.handle_request(scope, receive, send)
        else:
            await _Watched(receive).run(lambda watched: self._manager.handle_request(scope, watched, send))


class _Watched:
    """Runs a request and cancels it when its client leaves."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def run(self, serve: Any) -> None:
        request = asyncio.current_task()
        assert request is not None  # noqa: S101  (uvicorn runs every request in a task)
        self._request = request
        try:
            await serve(self._next)
        except asyncio.CancelledError:
            if not self._gone:
                raise
            request.uncancel()  # nobody is left to hear of it
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()

    def _post(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._request.cancel()

    async def _next(self) -> Message:
        if self._watcher is not None:  # only one may wait for the client at a time
            await asyncio.wait([self._watcher])
            return {"type": "http.disconnect"}
        message = await self._receive()
        if self._timer is None and not message.get("more_body", False):
            # Not before the whole body has been read: a watcher would throw away what it gets to see of it.
            self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER, self._post)
        return message


def _asks_for_progress(message: dict[str, Any]) -> bool:
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return isinstance(meta, dict) and isinstance(meta.get("progressToken"), str | int)


def _accepts_stream(scope: Scope) -> bool:
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return b"text/event-stream" in accept and b"application/json" in accept
