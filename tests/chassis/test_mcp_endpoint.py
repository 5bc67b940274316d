"""The last step of the way in: the cheapest response mode that serves, and an eye on the client."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from starlette.types import Message, Receive, Scope, Send

from mcp_chassis.mcp import endpoint as mcp_endpoint
from mcp_chassis.mcp.endpoint import McpEndpoint, SessionManager

pytestmark = pytest.mark.anyio

BOTH = [(b"accept", b"application/json, text/event-stream")]
BODY: Message = {"type": "http.request", "body": b"", "more_body": False}
Serve = Callable[[Receive], Awaitable[None]]


class Manager:
    """Stands for the SDK's manager: records the response mode and then serves as configured."""

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

    await asyncio.create_task(_run(McpEndpoint(cast("SessionManager", manager))(scope, receive, drop)))


async def drop(_: Message) -> None:
    """Send nothing."""


async def _run(work: Awaitable[None]) -> None:
    await work


class Client:
    """Sends the body, and disconnects on request."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages or [BODY])
        self.gone = asyncio.Event()
        self.asked = 0
        self.waiting = False

    async def receive(self) -> Message:
        """Return the next message of the client, to one at a time."""
        assert not self.waiting
        self.asked += 1
        if self.messages:
            return self.messages.pop(0)
        self.waiting = True
        try:
            await self.gone.wait()
        finally:
            self.waiting = False
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
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def served() -> int:
        await McpEndpoint(cast("SessionManager", Manager(work)))({"type": "http", "headers": []}, client.receive, drop)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(served())
    await asyncio.wait([task], timeout=10)  # not `wait_for`, which would end the work itself
    assert ends == ["cancelled"]
    assert task.result() == 0, "the layers above would take it for a cancellation of their own"


async def test_who_asks_again_while_the_client_is_watched_hears_that_it_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mcp_endpoint, "_WATCH_AFTER", 0)
    client, heard = Client(), list[Message]()

    async def work(receive: Receive) -> None:
        await receive()
        while not client.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(client.gone.set)
        try:
            heard.append(await receive())
        except asyncio.CancelledError:
            heard.append({"type": "cancelled"})

    await asyncio.wait_for(serve(Manager(work), client.receive, {}), 10)
    assert heard[0]["type"] in {"http.disconnect", "cancelled"}


async def test_nothing_is_left_of_a_watcher_whose_request_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_endpoint, "_WATCH_AFTER", 0.01)
    quick, slow = Client(), Client()

    async def until_watched(receive: Receive) -> None:
        await receive()
        while not slow.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def at_once(receive: Receive) -> None:
        await receive()

    await serve(Manager(until_watched), slow.receive, {})
    await serve(Manager(at_once), quick.receive, {})
    await asyncio.sleep(0.05)
    assert not slow.waiting
    assert quick.asked == 1


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
    """On a busy server the watcher would be there before the reader, and discard the body."""
    monkeypatch.setattr(mcp_endpoint, "_WATCH_AFTER", 0)
    received = list[Message]()

    async def work(receive: Receive) -> None:
        await asyncio.sleep(0.02)
        received.append(await receive())

    await asyncio.wait_for(serve(Manager(work), Client().receive, {}), 2)
    assert received == [BODY]


async def test_the_rest_of_a_body_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_endpoint, "_WATCH_AFTER", 0)
    part: Message = {"type": "http.request", "body": b"a", "more_body": True}
    received = list[Message]()

    async def work(receive: Receive) -> None:
        for _ in range(2):
            received.append(await receive())
            await asyncio.sleep(0.02)

    await asyncio.wait_for(serve(Manager(work), Client(part, BODY).receive, {}), 10)
    assert received == [part, BODY]


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
