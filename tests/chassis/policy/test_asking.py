"""What a tool asks while it runs, and what it asks before."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.types import ElicitRequestParams, ElicitResult
from pydantic import BaseModel, Field

from mcp_chassis import tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.callers import connected, server_for
from ..support.running import RunningServer, text

pytestmark = pytest.mark.anyio


class Size(BaseModel):
    """What is asked."""

    size: Annotated[int, Field(ge=1, le=9)]


@tool(read_only=True)
async def asks_while_it_runs(ctx: Context[Any, Any]) -> str:
    """Ask in the middle."""
    answer = await ctx.elicit("Which size?", Size)
    return repr(answer)


def which_size() -> Elicit[Size]:
    """Ask for the size."""
    return Elicit("Which size?", Size)


@tool(read_only=True)
async def asks_before_it_runs(size: Annotated[Size, Resolve(which_size)]) -> str:
    """Ask at the start."""
    return f"size {size.size}"


EVENTS = EventLog()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    tools = (asks_while_it_runs, asks_before_it_runs)
    with server_for({"alice": ()}, GuardedServer("asking", tools=tools, events=EVENTS)) as running:
        yield running


async def answer(context: object, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="accept", content={"size": 7})


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_question_in_the_middle_is_a_result_that_names_the_remedy(server: RunningServer, mode: str) -> None:
    async with connected(server, mode=mode, elicitation_callback=answer) as client:
        result = await client.call_tool("asks_while_it_runs", {})
    assert result.is_error
    assert "asks_while_it_runs sends elicitation/create while it runs" in text(result)
    assert "Resolve(function)" in text(result)
    assert EVENTS.recent(1)[0]["details"]["reason"] == "cannot_ask"


async def test_a_question_at_the_start_is_asked_over_http(server: RunningServer) -> None:
    async with connected(server, elicitation_callback=answer) as client:
        assert text(await client.call_tool("asks_before_it_runs", {})) == "size 7"


async def test_an_unknown_method_is_not_echoed_with_what_cannot_be_seen(server: RunningServer) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/\u202e\u200b\x1b[2Jcall", "params": {}}
    said = server.post(message, headers={"Authorization": "Bearer alice"}).text
    assert "ethod" in said
    for hidden in ("\\u202e", "\\u200b", "\\u001b", "\u202e", "\u200b", "\x1b"):
        assert hidden not in said
