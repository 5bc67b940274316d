"""The way of one tool call: scopes, rate, slots, arguments, confirmation, deadline, output filtering."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
import structlog
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult
from pydantic import AfterValidator, Field, TypeAdapter

from mcp_chassis import tool
from mcp_chassis.auth.principal import Principal, current_principal
from mcp_chassis.calls.output import Output, ResultTooLarge
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.running import running_server, text

pytestmark = pytest.mark.anyio

RAN: list[str] = []


@tool(read_only=True, timeout=0.05)
async def too_slow() -> str:
    """Take too long."""
    await anyio.sleep(5)
    RAN.append("too_slow")
    return ""


@tool(read_only=True, timeout=0.05)
def blocks() -> str:
    """Take too long in a thread."""
    time.sleep(0.3)
    return ""


@tool(read_only=True)
async def times_out_by_itself() -> str:
    """Fail with the same exception as a deadline."""
    raise TimeoutError("hunter2")


@tool(read_only=True, calls_per_minute=1)
async def seldom() -> str:
    """Answer once."""
    return "once"


@tool(read_only=True, max_concurrency=1)
async def one_at_a_time(seconds: Annotated[float, Field(ge=0, le=1)] = 0.0) -> str:
    """Answer."""
    await anyio.sleep(seconds)
    return "done"


@tool(scopes=["notes:delete"])
async def delete(name: Annotated[str, Field(max_length=10)]) -> str:
    """Delete."""
    RAN.append(name)
    return "deleted"


@tool(read_only=True)
async def large() -> str:
    """Answer at length."""
    return "x" * 5000


@tool(read_only=True)
async def smuggle() -> str:
    """Return invisible characters."""
    return "seen\U000e0068\U000e0069"


@tool(read_only=True)
async def refuse() -> str:
    """Fail in a way that the caller may know of."""
    raise ToolError("There is no such note.")


@tool(read_only=True)
async def validates_something_else() -> str:
    """Fail over data that the caller did not send."""
    TypeAdapter(int).validate_python("hunter2")
    return ""


@tool(read_only=True)
async def half_a_pair() -> str:
    """Answer with what cannot be sent."""
    return "hunter2 \ud800"


@tool(destructive=True, confirm=False)
async def purge(name: Annotated[str, Field(max_length=10)]) -> str:
    """Delete without asking."""
    RAN.append(name)
    return "purged"


@tool(confirm="if-possible")
async def trim(name: Annotated[str, Field(max_length=10)]) -> str:
    """Delete, and ask where that is possible."""
    RAN.append(name)
    return "trimmed"


TOOLS = (
    *(too_slow, blocks, times_out_by_itself, seldom, one_at_a_time, delete, large, smuggle, refuse),
    *(validates_something_else, half_a_pair, purge, trim),
)


class Guarded:
    """A guarded server with its events and its audit lines."""

    def __init__(self, log: list[Any], *, max_concurrent_calls: int = 100, max_result_bytes: int = 1_000_000) -> None:
        self.events, self._log = EventLog(), log
        output = Output(events=self.events, max_bytes=max_result_bytes)
        self.server = GuardedServer(
            "test", tools=TOOLS, events=self.events, output=output, max_concurrent_calls=max_concurrent_calls
        )

    async def call(self, tool: str, **arguments: Any) -> tuple[bool | None, str]:
        result = await self.server.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        return result.is_error, text(result)

    @property
    def outcomes(self) -> list[str]:
        return [line["outcome"] for line in self._log if "outcome" in line]

    @property
    def events_noted(self) -> list[tuple[str, str, Any]]:
        return [(e["event"], e["severity"], e["details"].get("reason")) for e in self.events.recent()]


@pytest.fixture
def log() -> Iterator[list[Any]]:
    RAN.clear()
    with structlog.testing.capture_logs() as lines:
        token = current_principal.set(Principal("key:default", "key", frozenset({"*"})))
        yield lines
        current_principal.reset(token)


async def test_a_deadline_ends_the_tool_and_says_so(log: list[Any]) -> None:
    guarded = Guarded(log)
    assert await guarded.call("too_slow") == (True, "too_slow did not finish within 0.05 seconds and was stopped.")
    await anyio.lowlevel.checkpoint()
    assert RAN == []
    assert guarded.outcomes == ["timeout"]
    assert guarded.events_noted == [("tool_execution_failed", "medium", "timeout")]


async def test_a_deadline_answers_although_a_thread_runs_on(log: list[Any]) -> None:
    guarded, started = Guarded(log), time.monotonic()
    is_error, said = await guarded.call("blocks")
    assert is_error
    assert "did not finish" in said
    assert time.monotonic() - started < 0.25


async def test_a_time_out_of_the_tools_own_is_a_crash_and_not_the_deadline(log: list[Any]) -> None:
    guarded = Guarded(log)
    _, said = await guarded.call("times_out_by_itself")
    assert said == "The tool times_out_by_itself failed. The server's log says why."
    assert guarded.outcomes == ["crashed"]


async def test_a_call_too_many_in_a_minute_says_when_to_try_again(log: list[Any]) -> None:
    guarded = Guarded(log)
    assert await guarded.call("seldom") == (False, "once")
    is_error, said = await guarded.call("seldom")
    assert is_error
    assert said.startswith("Too many calls of seldom. Try again in ")
    assert guarded.outcomes == ["ok", "rate_limited"]
    assert guarded.events_noted == [("rate_limit_exceeded", "medium", "rate_limited")]


async def test_a_call_that_a_person_confirms_is_counted_once() -> None:
    @tool(calls_per_minute=1)
    async def delete_seldom() -> str:
        """Delete."""
        return "deleted"

    async def agree(context: object, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"confirm": True})

    mcp = GuardedServer("test", tools=(delete_seldom,), events=EventLog())
    with running_server(mcp) as server:
        async with (
            httpx2.AsyncClient(headers=server.credentials, trust_env=False) as http_client,
            Client(
                streamable_http_client(server.url + "/mcp", http_client=http_client), elicitation_callback=agree
            ) as client,
        ):
            assert text(await client.call_tool("delete_seldom", {})) == "deleted"
            assert text(await client.call_tool("delete_seldom", {})).startswith("Too many calls of delete_seldom.")


async def test_each_caller_has_a_minute_of_its_own(log: list[Any]) -> None:
    guarded = Guarded(log)
    await guarded.call("seldom")
    current_principal.set(Principal("oauth:alice", "oauth"))
    assert await guarded.call("seldom") == (False, "once")


async def test_a_busy_tool_says_so_at_once_and_is_free_again_afterwards(log: list[Any]) -> None:
    guarded = Guarded(log)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: guarded.call("one_at_a_time", seconds=0.05))
        await anyio.sleep(0.01)
        assert await guarded.call("one_at_a_time") == (True, "one_at_a_time is busy. Try again in a few seconds.")
        assert (await guarded.call("seldom"))[0] is False, "another tool is not affected"
    assert await guarded.call("one_at_a_time") == (False, "done")
    assert guarded.outcomes == ["busy", "ok", "ok", "ok"]
    assert guarded.events_noted == [("rate_limit_exceeded", "medium", "busy")]


async def test_all_tools_share_the_places_of_the_server(log: list[Any]) -> None:
    guarded = Guarded(log, max_concurrent_calls=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: guarded.call("one_at_a_time", seconds=0.05))
        await anyio.sleep(0.01)
        assert await guarded.call("seldom") == (True, "seldom is busy. Try again in a few seconds.")


@pytest.mark.parametrize("tool", ["too_slow", "refuse", "large"])
async def test_a_call_that_fails_gives_its_place_back(log: list[Any], tool: str) -> None:
    guarded = Guarded(log, max_concurrent_calls=1, max_result_bytes=1024)
    for _ in range(2):
        _, said = await guarded.call(tool)
        assert "busy" not in said


async def test_a_scope_comes_before_everything_else(log: list[Any]) -> None:
    current_principal.set(Principal("oauth:alice", "oauth"))
    guarded = Guarded(log)
    with pytest.raises(MCPError) as error:
        await guarded.call("delete", name=7)
    needed = {"required_scopes": ["notes:delete"], "reason": "insufficient_scope", "tool": "delete"}
    assert error.value.error.data == needed
    assert guarded.outcomes == ["forbidden"]


@pytest.mark.parametrize("tool_name", ["purge", "trim"])
async def test_a_declared_exception_runs_unconfirmed_and_its_line_says_so(log: list[Any], tool_name: str) -> None:
    guarded = Guarded(log)
    is_error, _ = await guarded.call(tool_name, name="a")
    assert not is_error
    assert RAN == ["a"]
    assert [(line["outcome"], line["confirmed"]) for line in log if line["event"] == "tool_call"] == [("ok", False)]


async def test_without_elicitation_nothing_is_destroyed(log: list[Any]) -> None:
    guarded = Guarded(log)
    is_error, said = await guarded.call("delete", name="a")
    assert is_error
    assert said.endswith("this client cannot ask. Nothing was done.")
    assert RAN == []
    assert guarded.outcomes == ["cannot_ask"]
    assert guarded.events_noted == [("tool_execution_failed", "low", "cannot_ask")]


@pytest.mark.parametrize("arguments", [{}, {"name": 7}, {"name": "a" * 11}, {"name": "\ud800"}], ids=ascii)
async def test_no_question_is_sent_about_refused_arguments(log: list[Any], arguments: dict[str, Any]) -> None:
    guarded = Guarded(log)
    is_error, said = await guarded.call("delete", **arguments)
    assert is_error
    assert said.startswith("Invalid arguments: ")
    assert guarded.outcomes == ["rejected"]


async def test_arguments_are_validated_once_although_a_person_is_asked_about_them() -> None:
    seen: list[str] = []

    def check(path: str) -> str:
        seen.append(path)
        return path

    @tool()
    async def remove(path: Annotated[str, AfterValidator(check)]) -> str:
        """Delete."""
        return "deleted"

    async def agree(context: object, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"confirm": True})

    async with Client(GuardedServer("test", tools=(remove,), events=EventLog()), elicitation_callback=agree) as client:
        assert text(await client.call_tool("remove", {"path": "a"})) == "deleted"
    rounds = 2  # the question, and the call with its answer
    assert seen == ["a"] * rounds


async def test_a_result_that_is_too_large_is_a_clear_error(log: list[Any]) -> None:
    guarded = Guarded(log, max_result_bytes=1024)
    assert await guarded.call("large") == (True, str(ResultTooLarge("1024 bytes")))
    assert guarded.outcomes == ["too_large"]
    assert guarded.events_noted == [("tool_execution_failed", "low", "too_large")]


async def test_hidden_text_is_taken_out_and_reported(log: list[Any]) -> None:
    guarded = Guarded(log)
    result = await guarded.server.call_tool("smuggle", {})
    assert isinstance(result, CallToolResult)
    assert (text(result), result.structured_content) == ("seen", {"result": "seen"})
    assert guarded.outcomes == ["ok"]
    assert guarded.events_noted == [("tool_execution_failed", "medium", "hidden_text")]


@pytest.mark.parametrize("name", ["validates_something_else", "half_a_pair"])
async def test_an_error_of_the_tools_own_data_is_a_crash_and_not_the_callers_fault(log: list[Any], name: str) -> None:
    guarded = Guarded(log)
    assert await guarded.call(name) == (True, f"The tool {name} failed. The server's log says why.")
    assert guarded.outcomes == ["crashed"]
    assert guarded.events_noted == [("tool_execution_failed", "high", "crashed")]


async def test_an_anticipated_failure_reaches_the_caller_as_the_tool_words_it(log: list[Any]) -> None:
    guarded = Guarded(log)
    assert (await guarded.call("refuse"))[1].endswith("There is no such note.")
    assert guarded.outcomes == ["failed"]
