"""Keeping the server busy with one tool until no other caller is served."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from mcp_chassis import tool
from mcp_chassis.calls.output import Output
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.callers import (
    MODES,
    connected,
    eventually,
    headers,
    message,
    server_for,
)
from ..support.running import RunningServer, text

pytestmark = pytest.mark.anyio

STOPPED: list[str] = []
FINISHED: list[str] = []


@tool(read_only=True, timeout=0.4)
async def hang() -> str:
    """Never return."""
    try:
        await anyio.sleep_forever()
    except BaseException:
        STOPPED.append("hang")
        raise
    return ""


@tool(read_only=True, timeout=0.3, max_concurrency=1)
def block() -> str:
    """Hold a thread."""
    time.sleep(0.9)
    FINISHED.append("block")
    return "done"


@tool(read_only=True)
async def quick() -> str:
    """Answer at once."""
    return "done"


@tool(read_only=True)
def quick_in_a_thread() -> str:
    """Answer at once, from a thread."""
    return "done"


HELD = threading.Event()
"""Whether the two tools below may end."""


@tool(read_only=True, max_concurrency=3)
async def slow() -> str:
    """Take as long as the test likes."""
    while not HELD.is_set():  # noqa: ASYNC110  (it is set by another thread)
        await anyio.sleep(0.01)
    return "done"


@tool(read_only=True, max_concurrency=3)
async def slow_too() -> str:
    """Take as long as the test likes."""
    while not HELD.is_set():  # noqa: ASYNC110  (it is set by another thread)
        await anyio.sleep(0.01)
    return "done"


@tool(read_only=True, calls_per_minute=3)
async def rare() -> str:
    """Answer, but not often."""
    return "done"


@tool(read_only=True, timeout=0.8, max_concurrency=1)
async def end(how: str, ctx: Context[Any, Any]) -> str:
    """End in every way that there is."""
    if how == "error":
        raise ToolError("refused")
    if how == "crash":
        raise RuntimeError("crashed")
    if how == "exit":
        raise SystemExit(1)
    if how == "too large":
        return "x" * 30_000
    if how == "wait":
        try:
            await ctx.report_progress(0.1, 1)
            await anyio.sleep(20)
        except BaseException:
            STOPPED.append("end")
            raise
    return "done"


TOOLS = (hang, block, quick, quick_in_a_thread, slow, slow_too, rare, end)
EVENTS = EventLog()
LIMITS: dict[str, Any] = {"max_concurrent_calls": 20, "output": Output(events=EVENTS, max_bytes=20_000)}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server of everything above, for two callers."""
    mcp = GuardedServer("starve", tools=TOOLS, events=EVENTS, **LIMITS)
    with server_for({"alice": (), "bob": (), "carol": (), "dave": ()}, mcp) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean() -> None:
    STOPPED.clear()
    FINISHED.clear()


async def ask(client: Client, name: str, answers: list[str], **arguments: Any) -> None:
    """Call a tool and keep the text of its answer."""
    answers.append(text(await client.call_tool(name, arguments)))


def kinds(since: int) -> list[tuple[str, Any, str]]:
    """Return what was noted since then: kind, reason and severity."""
    new = EVENTS.recent(EVENTS.total - since) if EVENTS.total > since else []
    return [(event["event"], event["details"].get("reason"), event["severity"]) for event in new]


# --- deadlines ---


@pytest.mark.parametrize("mode", MODES)
async def test_a_tool_that_hangs_ends_at_its_deadline_and_others_are_served(server: RunningServer, mode: str) -> None:
    before, answers, others = EVENTS.total, list[str](), list[float]()
    async with connected(server, mode=mode) as client, connected(server, name="bob", mode=mode) as bob:
        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask, client, "hang", answers)
            while time.monotonic() < started + 0.3:
                asked = time.monotonic()
                assert text(await bob.call_tool("quick", {})) == "done"
                others.append(time.monotonic() - asked)
        took = time.monotonic() - started
    assert 0.4 <= took < 2
    assert answers == ["hang did not finish within 0.4 seconds and was stopped."] * 5
    assert STOPPED == ["hang"] * 5
    assert min(others) < 0.2
    assert kinds(before) == [("tool_execution_failed", "timeout", "medium")] * 5


@pytest.mark.parametrize("mode", MODES)
async def test_a_thread_that_hangs_keeps_its_own_slot_only(server: RunningServer, mode: str) -> None:
    """A thread cannot be stopped: its caller gets an error at the deadline, and no further one starts meanwhile."""
    before = EVENTS.total
    async with connected(server, mode=mode) as client:
        started = time.monotonic()
        first = text(await client.call_tool("block", {}))
        assert 0.3 <= time.monotonic() - started < 0.8
        assert first == "block did not finish within 0.3 seconds and was stopped."
        assert text(await client.call_tool("block", {})) == "block is busy. Try again in a few seconds."
        assert text(await client.call_tool("quick_in_a_thread", {})) == "done"
        assert text(await client.call_tool("quick", {})) == "done"
        assert FINISHED == []
        await eventually(lambda: FINISHED == ["block"])
        await anyio.sleep(0.05)
        assert "did not finish" in text(await client.call_tool("block", {}))  # it was let in again
        await eventually(lambda: len(FINISHED) == 2)
        await anyio.sleep(0.05)
    assert kinds(before)[::-1] == [
        ("tool_execution_failed", "timeout", "medium"),
        ("rate_limit_exceeded", "busy", "medium"),
        ("tool_execution_failed", "timeout", "medium"),
    ]


# --- concurrency and rates ---


async def filled(answers: list[str], number: int) -> None:
    """Wait for a number of answers: those that are refused come at once, before any of the others."""
    with anyio.fail_after(20):
        while len(answers) < number:  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_one_tool_has_its_own_slots_only(server: RunningServer) -> None:
    answers, others = list[str](), list[str]()
    HELD.clear()
    async with connected(server) as client, anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(ask, client, "slow", answers)
        await filled(answers, 5)
        assert answers == ["slow is busy. Try again in a few seconds."] * 5  # nothing piles up
        tasks.start_soon(ask, client, "slow_too", others)
        assert text(await client.call_tool("quick", {})) == "done"
        HELD.set()
    assert sorted(answers) == ["done"] * 3 + ["slow is busy. Try again in a few seconds."] * 5
    assert others == ["done"]


async def test_all_tools_together_have_a_number_of_slots() -> None:
    answers = list[str]()
    events = EventLog()
    mcp = GuardedServer("few", tools=TOOLS, events=events, max_concurrent_calls=4)
    HELD.clear()
    with server_for({"alice": ()}, mcp) as few:
        async with connected(few) as client:
            async with anyio.create_task_group() as tasks:
                for name in ("slow", "slow_too") * 3:
                    tasks.start_soon(ask, client, name, answers)
                await filled(answers, 2)
                HELD.set()
            assert all("is busy" in answer for answer in answers[:2])
            assert answers[2:] == ["done"] * 4
            assert text(await client.call_tool("quick", {})) == "done"
    assert [event["event"] for event in events.recent()] == ["rate_limit_exceeded"] * 2


@pytest.mark.parametrize("mode", MODES)
async def test_a_rate_is_each_callers_own(server: RunningServer, mode: str) -> None:
    greedy, modest = ("alice", "bob") if mode == "auto" else ("carol", "dave")
    async with connected(server, name=greedy, mode=mode) as one, connected(server, name=modest, mode=mode) as other:
        answers = [text(await one.call_tool("rare", {})) for _ in range(5)]
        assert answers[:3] == ["done"] * 3
        assert all(answer.startswith("Too many calls of rare. Try again in ") for answer in answers[3:])
        assert EVENTS.recent(1)[0]["event"] == "rate_limit_exceeded"
        assert EVENTS.recent(1)[0]["identifier"] == f"key:{greedy}"
        assert text(await one.call_tool("quick", {})) == "done"
        assert text(await other.call_tool("rare", {})) == "done"


# --- slots come back ---

ENDS = {
    "ok": "done",
    "error": "refused",
    "crash": "The tool end failed",
    "exit": "The tool end failed",
    "too large": "larger than",
    "wait": "did not finish",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ENDS)
async def test_a_slot_comes_back_however_a_call_ends(server: RunningServer, mode: str, how: str) -> None:
    async with connected(server, mode=mode) as client:
        assert ENDS[how] in text(await client.call_tool("end", {"how": how}))
        assert text(await client.call_tool("end", {"how": "ok"})) == "done"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arguments", [{"how": 7}, {}, {"how": "ok", "more": 1}], ids=range(3))
async def test_a_slot_comes_back_after_a_refusal(server: RunningServer, mode: str, arguments: dict[str, Any]) -> None:
    async with connected(server, mode=mode) as client:
        assert "Invalid arguments" in text(await client.call_tool("end", arguments))
        assert text(await client.call_tool("end", {"how": "ok"})) == "done"


async def leave(server: RunningServer, mode: str, name: str, *, progress: bool, **arguments: Any) -> None:
    """Call a tool and hang up while it works."""
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    if progress:
        params["_meta"] = {"progressToken": 1}
    body = message("tools/call", params, mode=mode)
    async with httpx2.AsyncClient(trust_env=False, timeout=0.2) as client:
        with pytest.raises(httpx2.TimeoutException):
            await client.post(server.url + "/mcp", json=body, headers=headers(server, "tools/call", name, mode=mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("progress", [False, True], ids=["json", "stream"])
async def test_a_client_that_hangs_up_stops_the_work(server: RunningServer, mode: str, progress: bool) -> None:
    started = time.monotonic()
    await leave(server, mode, "end", progress=progress, how="wait")
    await eventually(lambda: STOPPED == ["end"], seconds=0.35)
    assert time.monotonic() - started < 0.75  # before the deadline would have done it
    async with connected(server, mode=mode) as client:
        assert text(await client.call_tool("end", {"how": "ok"})) == "done"


async def test_a_client_that_cancels_stops_the_work(server: RunningServer) -> None:
    """Of the newer revisions: older ones say so in a message of its own, which finds no session, and then hang up."""
    async with connected(server) as client:
        started = time.monotonic()
        with anyio.move_on_after(0.3) as scope:
            await client.call_tool("end", {"how": "wait"})
        assert scope.cancelled_caught
        await eventually(lambda: STOPPED == ["end"], seconds=0.35)
        assert time.monotonic() - started < 0.75
        assert text(await client.call_tool("end", {"how": "ok"})) == "done"


async def test_a_client_that_hangs_up_does_not_free_the_slot_of_its_thread(server: RunningServer) -> None:
    """Otherwise calling and leaving would start thread after thread."""
    await leave(server, "legacy", "block", progress=False)
    async with connected(server) as client:
        for _ in range(2):
            assert text(await client.call_tool("block", {})) == "block is busy. Try again in a few seconds."
    await eventually(lambda: FINISHED == ["block"])
    await anyio.sleep(0.3)
    assert FINISHED == ["block"]
