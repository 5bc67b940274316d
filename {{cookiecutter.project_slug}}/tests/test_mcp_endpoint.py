"""The last step of the way in: the cheapest response mode that serves, and an eye on the client."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from starlette.types import Message, Receive, Scope, Send

from {{ cookiecutter.package_name }} import mcp_endpoint
from {{ cookiecutter.package_name }}.mcp_endpoint import McpEndpoint, SessionManager

pytestmark = pytest.mark.anyio

BOTH = [(b"accept", b"application/json, text/event-stream")]
BODY: Message = {"type": "http.request", "body": b"", "more_body": False}
Serve = Callable[[Receive], Awaitable[None]]


class Manager:
    """Stands for the SDK's manager: notes the response mode and then serves as it is told."""

    def __init__(self, serve: Serve | None = None) -> None:
        self.modes: list[bool] = []
        self._serve = serve

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.modes.append(not mcp_endpoint._streams.get())
        if self._serve is not None:
            await self._serve(receive)


async def serve(
    manager: Manager, receive: Receive, params: dict[str, Any], headers: list[tuple[bytes, bytes]] = BOTH
) -> None:
    """Serve one request in a task, as uvicorn does."""
    scope: Scope = {"type": "http", "headers": headers, "state": {"mcp_message": {"params": params}}}

    async def send(_: Message) -> None:
        pass

    await asyncio.create_task(_run(McpEndpoint(cast("SessionManager", manager))(scope, receive, send)))


async def _run(work: Awaitable[None]) -> None:
    await work


class Client:
    """Sends the body, and leaves when it is told to."""

    def __init__(self) -> None:
        self.messages = [BODY]
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        """Return the next message of the client."""
        if self.messages:
            return self.messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("params", "headers", "is_json"),
    [
        ({}, BOTH, True),
        ({"_meta": {"progressToken": 1}}, BOTH, False),
        ({"_meta": {"progressToken": 0}}, BOTH, False),
        ({"_meta": {"progressToken": 1}}, [(b"accept", b"application/json")], True),
        ({"_meta": {"progressToken": 1}}, [], True),
        ({"_meta": {"progressToken": "a"}}, BOTH, False),
        ({"_meta": {"progressToken": None}}, BOTH, True),
        ({"_meta": {"progressToken": [1]}}, BOTH, True),
        ({"_meta": ["progressToken"]}, BOTH, True),
        ({"_meta": {"other": 1}}, BOTH, True),
    ],
    ids=repr,
)
async def test_only_who_asks_for_progress_gets_a_stream(
    params: dict[str, Any], headers: list[tuple[bytes, bytes]], is_json: bool
) -> None:
    manager = Manager()
    await serve(manager, Client().receive, params, headers)
    assert manager.modes == [is_json]


async def test_two_requests_at_once_have_each_their_own_mode() -> None:
    manager = Manager(lambda _: asyncio.sleep(0.01))
    streaming = {"_meta": {"progressToken": 1}}
    await asyncio.gather(*(serve(manager, Client().receive, params) for params in [streaming, {}] * 3))
    assert sorted(manager.modes) == [False] * 3 + [True] * 3


async def test_a_client_that_leaves_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_endpoint, "_WATCH_AFTER", 0)
    client, ends = Client(), list[str]()

    async def work(receive: Receive) -> None:
        await receive()
        client.gone.set()
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    await asyncio.wait_for(serve(Manager(work), client.receive, {}), 2)
    assert ends == ["cancelled"]


async def test_a_client_that_stays_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_endpoint, "_WATCH_AFTER", 0)
    ends = list[str]()

    async def work(receive: Receive) -> None:
        await receive()
        await asyncio.sleep(0.02)
        ends.append("done")

    await serve(Manager(work), Client().receive, {})
    assert ends == ["done"]


async def test_a_body_that_is_read_late_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy server the watcher would be there before the reader, and throw the body away."""
    monkeypatch.setattr(mcp_endpoint, "_WATCH_AFTER", 0)
    received = list[Message]()

    async def work(receive: Receive) -> None:
        await asyncio.sleep(0.02)
        received.append(await receive())

    await asyncio.wait_for(serve(Manager(work), Client().receive, {}), 2)
    assert received == [BODY]


async def test_a_cancellation_from_above_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    task = asyncio.create_task(serve(Manager(lambda _: asyncio.sleep(5)), Client().receive, {}))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_goes_on() -> None:
    async def fail(_: Receive) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await serve(Manager(fail), Client().receive, {})
