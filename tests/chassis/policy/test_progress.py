"""A long tool says how far it is, while it works."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from mcp import Client
from mcp.server.mcpserver import Context

from mcp_chassis import tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.callers import (
    MODES,
    connected,
    eventually,
    headers,
    message,
    on_stdio,
    server_for,
)
from ..support.running import RunningServer, text

pytestmark = pytest.mark.anyio

STOPPED: list[float] = []


@tool(read_only=True, open_world=False)
async def count(steps: int, ctx: Context[Any, Any]) -> str:
    """Count, slowly."""
    try:
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"step {step}")
            await anyio.sleep(0.25)
    except BaseException:
        STOPPED.append(time.monotonic())
        raise
    return "counted"


def make_server() -> GuardedServer:
    """Return a server of the tool above."""
    return GuardedServer("progress", tools=(count,), events=EventLog())


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server of the tool above."""
    with server_for({"alice": ()}, make_server()) as running:
        yield running


@asynccontextmanager
async def client_on(transport: str, mode: str, server: RunningServer) -> AsyncIterator[Client]:
    """Connect over HTTP or over standard streams."""
    way = connected(server, mode=mode) if transport == "http" else on_stdio(__name__, "make_server", mode=mode)
    async with way as client:
        yield client


class Watch:
    """Notes what was heard, and when."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, float | None, str | None]] = []
        self.at: list[float] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Hear of one step."""
        self.heard.append((progress, total, message))
        self.at.append(time.monotonic())


@pytest.mark.parametrize(("transport", "mode"), [("http", "auto"), ("http", "legacy"), ("stdio", "auto")])
async def test_progress_is_seen_while_the_tool_works(server: RunningServer, mode: str, transport: str) -> None:
    watch = Watch()
    with anyio.fail_after(90):  # the other process may need 20 s to start on a busy machine; its client then asks twice
        async with client_on(transport, mode, server) as client:
            result = await client.call_tool("count", {"steps": 3}, progress_callback=watch)
            ended = time.monotonic()
    assert text(result) == "counted"
    assert watch.heard == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
    assert ended - watch.at[0] > 0.6
    assert watch.at[1] - watch.at[0] > 0.15
    assert ended - watch.at[2] > 0.15


@pytest.mark.parametrize("mode", MODES)
async def test_cancelling_stops_the_tool_between_two_steps(server: RunningServer, mode: str) -> None:
    STOPPED.clear()
    watch = Watch()
    async with connected(server, mode=mode) as client:
        with anyio.move_on_after(0.4) as scope:
            await client.call_tool("count", {"steps": 100}, progress_callback=watch)
        assert scope.cancelled_caught
        if mode == "auto":
            await eventually(lambda: bool(STOPPED), seconds=1)
            assert text(await client.call_tool("count", {"steps": 1})) == "counted"
    await eventually(
        lambda: bool(STOPPED), seconds=1
    )  # an older client hangs up only when it is closed: there is no session to cancel in
    assert 1 <= len(watch.heard) <= 4


def asked(server: RunningServer, mode: str, *, token: object = None, accept: str | None = None) -> Any:
    """Call the tool with one POST and return the answer."""
    params: dict[str, Any] = {"name": "count", "arguments": {"steps": 1}}
    if token is not None:
        params["_meta"] = {"progressToken": token}
    sent = headers(server, "tools/call", "count", mode=mode) | ({"Accept": accept} if accept else {})
    return server.post(message("tools/call", params, mode=mode), headers=sent)


@pytest.mark.parametrize("mode", MODES)
def test_who_asks_for_no_progress_gets_one_document(server: RunningServer, mode: str) -> None:
    answer = asked(server, mode)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["result"]["content"][0]["text"] == "counted"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("token", [7, 0, "seven", ""])
def test_who_asks_for_progress_gets_a_stream(server: RunningServer, mode: str, token: object) -> None:
    answer = asked(server, mode, token=token)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    lines = [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:") and line[5:].strip()]
    assert lines[0]["method"] == "notifications/progress"
    assert lines[0]["params"]["progressToken"] == token
    assert lines[-1]["result"]["content"][0]["text"] == "counted"


def test_who_cannot_read_a_stream_gets_one_document(server: RunningServer) -> None:
    answer = asked(server, "legacy", token=7, accept="application/json")
    assert answer.status_code in (200, 406)
    assert answer.headers["Content-Type"] == "application/json"


async def test_a_stream_for_one_is_none_for_another(server: RunningServer) -> None:
    """The mode is chosen for each request, also of those that are served at the same time."""
    kinds: dict[str, list[str]] = {"stream": [], "document": []}

    async def one(kind: str, mode: str) -> None:
        answer = await anyio.to_thread.run_sync(lambda: asked(server, mode, token=7 if kind == "stream" else None))
        kinds[kind].append(answer.headers["Content-Type"].partition(";")[0])

    async with anyio.create_task_group() as tasks:
        for mode in MODES * 4:
            for kind in kinds:
                tasks.start_soon(one, kind, mode)
    assert kinds == {"stream": ["text/event-stream"] * 8, "document": ["application/json"] * 8}
