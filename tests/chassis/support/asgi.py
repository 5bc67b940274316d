"""One ASGI layer by itself: scopes made by hand, an endpoint that remembers, no socket in between."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_chassis.auth import principal
from mcp_chassis.http import current_request as request_context

Headers = Iterable[tuple[bytes, bytes]]
CLIENT = "192.0.2.1"


@dataclass
class Answer:
    """What a layer sent."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return one header, or None; fail if there are several of that name."""
        values = [value.decode("latin-1") for header, value in self.headers if header == name.encode()]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


@dataclass
class Endpoint:
    """The application below the layer: reads the body, answers, and remembers what reached it."""

    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()
    scopes: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    principals: list[principal.Principal | None] = field(default_factory=list)
    requests: list[request_context.RequestContext | None] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many requests came through."""
        return len(self.scopes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.principals.append(principal.current_principal.get())
        self.requests.append(request_context.current_request.get())
        if scope["type"] != "http":
            return
        self.bodies.append(await whole_body(receive))
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": b"inner"})


async def whole_body(receive: Receive) -> bytes:
    """Read a request's body to its end."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def http_scope(
    path: str = "/", *, method: str = "GET", headers: Headers = (), client: tuple[str, int] | None = (CLIENT, 50000)
) -> Scope:
    """Return the scope of one request."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
        "client": client,
    }


async def ask(
    app: ASGIApp,
    scope: Scope | None = None,
    body: Sequence[bytes] = (b"",),
    *,
    caller: principal.Principal | None = None,
    client: str | None = None,
    hang_up: bool = False,
) -> Answer:
    """Send one request to `app` and return its answer.

    Args:
        app: the layer.
        scope: the request; by default `GET /`.
        body: the chunks of the body.
        caller: who an outer layer has found out is calling.
        client: the address that an outer layer has found; without it there is no request context.
        hang_up: the client leaves instead of sending the last chunk.
    """
    answer, failure = Answer(), list[Exception]()
    messages = _messages(body, hang_up=hang_up)
    known = None if client is None else request_context.RequestContext("request-1", client)

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = known.response_headers if known is not None else ()  # as by the outermost layer
            answer.status, answer.headers = message["status"], [*message["headers"], *added]
        else:
            answer.body += message.get("body", b"")

    async def run() -> None:
        principal.current_principal.set(caller)
        request_context.current_request.set(known)
        try:
            await app(scope or http_scope(), receive, send)
        except Exception as error:
            failure.append(error)

    # A task has a copy of the context: what a layer sets does not leak into the next test.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
    if failure:
        raise failure[0]
    return answer


def _messages(chunks: Sequence[bytes], *, hang_up: bool) -> list[Message]:
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if hang_up:
        messages[-1] = {"type": "http.disconnect"}
    elif messages:
        messages[-1]["more_body"] = False
    return messages
