"""The last layer: hands a message to the SDK, in the cheapest response mode that serves it.

A JSON response costs the least, but it carries no progress and does not notice that the client has disconnected. So a
request that asks for progress gets a stream, and every other one gets a watcher if it runs for more than 0.25 seconds.
A stream ends with the credential of its caller, and its call is cancelled as if the client had disconnected.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mcp.types import INTERNAL_ERROR
from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.principal import credential_is_valid
from ..counters import counted_stream
from ..middleware.request_body import parsed_message
from . import sdk
from .fast_path import DirectEntry
from .guarded_server import GuardedServer
from .streams import end_of_credential

_WATCH_AFTER = 0.25  # seconds: almost every call is over by then

_streams: ContextVar[bool] = ContextVar("streams", default=False)
"""Whether the request being served is answered by a stream. The SDK asks for it without saying for which request."""


class SessionManager(sdk.StreamableHTTPSessionManager):
    """The SDK's manager, asked for the response mode at every request instead of once, with a shorter path.

    Args:
        server: the SDK's low-level server.
        fast_path: whether ordinary messages take the shorter path.
        guarded: the server around it, whose plain tools take the shortest.
        options: of the SDK's manager.
    """

    def __init__(
        self, server: sdk.Server[Any], *, fast_path: bool = True, guarded: GuardedServer | None = None, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._direct = DirectEntry(server, guarded) if fast_path else None

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            # No provider records the SDK's spans, which are a tenth of what a call costs.
            middleware = self.app.middleware
            middleware[:] = [one for one in middleware if type(one).__name__ != "OpenTelemetryMiddleware"]
        async with super().run():
            yield

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = None if _streams.get() else self._direct
        if direct is None or not await direct.serve(parsed_message(scope), self._lifespan_state, scope, receive, send):
            await super().handle_request(scope, receive, send)

    @property
    def json_response(self) -> bool:
        """Whether the request being served is answered by one JSON document."""
        return not _streams.get()

    @json_response.setter
    def json_response(self, _: bool) -> None:
        """The SDK's constructor sets a mode for all requests, which is not used."""


class McpEndpoint:
    """The ASGI application behind the MCP endpoint."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self._unwatched = _Unwatched()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = _asks_for_progress(parsed_message(scope)) and _accepts_stream(scope)
        _streams.set(streams)
        request = _Request(scope, receive, send, self._unwatched)
        if streams:
            with counted_stream("progress"):
                await request.run(self._manager.handle_request(scope, receive, request.send))
        else:
            await request.run(self._manager.handle_request(scope, request.receive, send))


@dataclass
class MessageLayer:
    """Hands messages to the endpoint past Starlette's router and its handlers of exceptions, a twentieth of a call."""

    app: ASGIApp  # the router, for everything else
    endpoint: ASGIApp
    path: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_message = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == self.path
        await (self.endpoint if is_message else self.app)(scope, receive, send)


class _Unwatched(set["_Request"]):
    """Requests without a watcher. One timer for all of them costs less than one for each."""

    _is_armed = False

    def add(self, request: "_Request") -> None:
        """Start the watcher of a request within `_WATCH_AFTER`, if it is still here by then."""
        super().add(request)
        if not self._is_armed:
            self._is_armed = True
            asyncio.get_running_loop().call_later(_WATCH_AFTER, self._start)

    def _start(self) -> None:
        self._is_armed = False
        while self:
            request = self.pop()
            request.watch(request.disconnected)


class _Request:
    """Runs a request, and cancels it when its client disconnects, or a stream when the caller's credential ends."""

    _is_open = _has_ended = False
    _watcher: asyncio.Task[None] | None = None

    def __init__(self, scope: Scope, receive: Receive, send: Send, unwatched: _Unwatched) -> None:
        self._scope, self._receive, self._send, self._unwatched = scope, receive, send, unwatched

    async def run(self, serving: Awaitable[None]) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (uvicorn runs every request in a task)
        self._task = task
        try:
            await serving
        except asyncio.CancelledError:
            if not self._has_ended:
                raise
            task.uncancel()
            if self._is_open:  # a stream, and its answer was not complete
                await self._send_end()
        finally:
            self._unwatched.discard(self)
            if self._watcher is not None:
                self._watcher.cancel()

    def watch(self, end: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Cancel the request once `end(*arguments)` returns."""
        self._watcher = asyncio.get_running_loop().create_task(self._watch(end, *arguments))

    async def _watch(self, end: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        await end(*arguments)
        self._has_ended = True
        self._task.cancel()

    async def disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def receive(self) -> Message:
        """Receive for a request that is answered by one document."""
        if self._watcher is not None:  # only one task may receive at a time
            await asyncio.wait([self._watcher])
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            # Not before the whole body has been read: a watcher would discard what it receives of it.
            self._unwatched.add(self)
        return message

    async def send(self, message: Message) -> None:
        """Send for a request that may be answered by a stream."""
        is_start, is_valid = message["type"] == "http.response.start", credential_is_valid.get()
        if is_start and is_valid is not None:
            self.watch(end_of_credential, is_valid)
        self._is_open = message.get("more_body", is_start)
        await self._send(message)

    async def _send_end(self) -> None:
        error = {"code": INTERNAL_ERROR, "message": "The credential is not valid any more. The call was stopped."}
        document = json.dumps({"jsonrpc": "2.0", "id": parsed_message(self._scope).get("id"), "error": error})
        body = f"event: message\r\ndata: {document}\r\n\r\n".encode()
        await self._send({"type": "http.response.body", "body": body})


def _asks_for_progress(message: dict[str, Any]) -> bool:
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return isinstance(meta, dict) and isinstance(meta.get("progressToken"), str | int)


def _accepts_stream(scope: Scope) -> bool:
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return b"text/event-stream" in accept and b"application/json" in accept
