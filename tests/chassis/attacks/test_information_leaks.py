"""Learning from failures: stack traces, the text of exceptions, and what else was on the server's mind."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from mcp import MCPError
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from mcp_chassis import prompt, resource, tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.endpoint import SessionManager
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.running import RunningServer, running_server, text
from .logs import log_lines

SECRET = "postgres://admin:do-not-tell@db"
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


class Secretive(BaseModel):
    """A model that a tool fails to make."""

    number: int


class Talkative(Exception):
    """An exception that puts its secret into every representation."""

    def __str__(self) -> str:
        return SECRET

    __repr__ = __str__


def failures() -> dict[str, BaseException]:
    """Return exceptions as tools raise them, by name."""
    try:
        Secretive.model_validate({"number": SECRET})
    except ValueError as error:
        invalid = error
    return {
        "runtime": RuntimeError(SECRET),
        "value": ValueError(SECRET),
        "key": KeyError(SECRET),
        "system": FileNotFoundError(2, SECRET, SECRET),
        "group": ExceptionGroup(SECRET, [Talkative(), ValueError(SECRET)]),
        "talkative": Talkative(),
        "model": invalid,
        "exit": SystemExit(SECRET),
        "missing": ValueError(f"Missing required arguments: {SECRET}"),
        "recursion": RecursionError(SECRET),
        "timeout": TimeoutError(SECRET),
    }


KINDS = sorted(failures())


@tool(read_only=True)
async def crash(kind: str) -> str:
    """Fail."""
    await asyncio.sleep(0)
    raise failures()[kind]


@tool(read_only=True)
def crash_in_a_thread(kind: str) -> str:
    """Fail in a thread."""
    raise failures()[kind]


@tool(read_only=True)
def chained(kind: str) -> str:
    """Fail because of a failure."""
    raise RuntimeError("while connecting") from failures()[kind]


@tool(read_only=True)
def wrong_result() -> int:
    """Return something else than promised."""
    result: Any = SECRET
    return cast(int, result)


@tool(read_only=True)
def half_a_character() -> str:
    """Return what no JSON can carry: names of files hold such halves."""
    return "notes-\udcff.txt"


@tool(read_only=True)
def refuse() -> str:
    """Fail as expected."""
    raise ToolError("The order 42 does not exist.")


@resource("crash://fixed")
def crashing_resource() -> str:
    """Fail."""
    raise RuntimeError(SECRET)


@resource("crash://template/{name}")
def crashing_template(name: str) -> str:
    """Fail."""
    raise failures()[name]


@prompt()
def crashing_prompt(kind: str) -> str:
    """Fail."""
    raise failures()[kind]


EVENTS = EventLog()
TOOLS = (crash, crash_in_a_thread, chained, wrong_result, half_a_character, refuse)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server on which everything fails."""
    mcp = GuardedServer(
        "failing",
        tools=TOOLS,
        resources=(crashing_resource, crashing_template),
        prompts=(crashing_prompt,),
        events=EVENTS,
    )
    with running_server(mcp=mcp) as running:
        yield running


@pytest.mark.anyio
@MODES
@pytest.mark.parametrize("tool", ["crash", "crash_in_a_thread", "chained"])
async def test_a_crash_of_a_tool_says_nothing_to_the_client(server: RunningServer, tool: str, mode: str) -> None:
    async with server.client(mode) as client:
        for kind in KINDS:
            if kind == "exit" and tool == "chained":
                continue
            with log_lines("error") as lines:
                result = await client.call_tool(tool, {"kind": kind})
            assert result.is_error
            assert text(result) == f"The tool {tool} failed. The server's log says why.", kind
            assert "exc_info" in lines[0] or "exception" in lines[0]
            event = EVENTS.recent(1)[0]
            assert (event["event"], event["severity"]) == ("tool_execution_failed", "high")
            assert SECRET not in json.dumps(event)


@pytest.mark.anyio
@MODES
async def test_a_result_that_cannot_be_sent_is_a_crash(server: RunningServer, mode: str) -> None:
    async with server.client(mode) as client:
        result = await client.call_tool("half_a_character", {})
    assert result.is_error
    assert text(result) == "The tool half_a_character failed. The server's log says why."


@pytest.mark.anyio
@MODES
async def test_a_result_of_a_wrong_type_is_named_without_its_value(server: RunningServer, mode: str) -> None:
    async with server.client(mode) as client:
        result = await client.call_tool("wrong_result", {})
    assert result.is_error
    assert "The result breaks the tool's output schema: result: Input should be a valid integer" in text(result)
    assert SECRET not in text(result)


@pytest.mark.anyio
@MODES
async def test_an_anticipated_failure_reaches_the_caller(server: RunningServer, mode: str) -> None:
    async with server.client(mode) as client:
        result = await client.call_tool("refuse", {})
    assert result.is_error
    assert "The order 42 does not exist." in text(result)
    event = EVENTS.recent(1)[0]
    assert (event["event"], event["severity"]) == ("tool_execution_failed", "low")


@pytest.mark.anyio
@MODES
async def test_a_crash_of_a_resource_says_nothing_to_the_client(server: RunningServer, mode: str) -> None:
    async with server.client(mode) as client:
        for uri in ("crash://fixed", *(f"crash://template/{kind}" for kind in KINDS)):
            with pytest.raises(MCPError) as failure:
                await client.read_resource(uri)
            assert "do-not-tell" not in repr(failure.value.error), uri


@pytest.mark.anyio
@MODES
async def test_a_crash_of_a_prompt_says_nothing_to_the_client(server: RunningServer, mode: str) -> None:
    """The SDK sends the text of any exception in a prompt to clients of the older revisions."""
    async with server.client(mode) as client:
        for kind in KINDS:
            with pytest.raises(MCPError) as failure:
                await client.get_prompt("crashing_prompt", {"kind": kind})
            assert "do-not-tell" not in repr(failure.value.error), kind


def test_a_crash_of_the_http_application_says_nothing_to_the_client(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise Talkative

    monkeypatch.setattr(SessionManager, "handle_request", broken)
    with log_lines("error") as lines:
        answer = server.call("refuse", {})
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert "do-not-tell" not in answer.text
    assert lines
    event = server.events("http_error")[0]
    assert (event["details"]["status"], event["severity"]) == (500, "high")
