"""Pages of long results: every row once, and a cursor that opens nothing else."""

import sqlite3
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field

from mcp_chassis import tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.pages import Cursor, Page, offset_of, page, paginate

from ..support.callers import MODES, connected, server_for
from ..support.documents import code, executed
from ..support.running import RunningServer, text

pytestmark = pytest.mark.anyio

Word = Annotated[str, Field(max_length=20)]


@tool(scopes=(), read_only=True)
def list_words(word: Word, cursor: Cursor = None) -> Page[str]:
    """List."""
    return paginate([f"{word}-{number}" for number in range(25)], cursor, size=10)


@tool(scopes=(), read_only=True)
async def list_others(word: Word, cursor: Cursor = None) -> Page[str]:
    """List."""
    offset = offset_of(cursor)
    return page([f"{word}-{number}" for number in range(25)][offset : offset + 11], offset, size=10)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    mcp = GuardedServer("a-server", tools=[list_words, list_others], events=EventLog())
    with server_for({"alice": ["*"], "bob": ["*"]}, mcp, max_requests_per_minute=10_000) as running:
        yield running


async def one(client: Any, name: str, **arguments: Any) -> dict[str, Any]:
    """Return one page."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, text(result)
    found: dict[str, Any] = result.structured_content
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["list_words", "list_others"])
async def test_the_pages_hold_every_item_once(server: RunningServer, mode: str, name: str) -> None:
    async with connected(server, mode=mode) as client:
        seen, sizes, cursor = [], [], None
        while True:
            found = await one(client, name, word="a", cursor=cursor)
            seen += found["items"]
            sizes.append(len(found["items"]))
            cursor = found["next_cursor"]
            if cursor is None:
                break
    assert seen == [f"a-{number}" for number in range(25)]
    assert sizes == [10, 10, 5]


async def test_a_cursor_of_another_call_is_refused(server: RunningServer) -> None:
    async with connected(server) as alice, connected(server, name="bob") as bob:
        cursor = (await one(alice, "list_words", word="a"))["next_cursor"]
        flipped = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
        for client, name, arguments in (
            (bob, "list_words", {"word": "a", "cursor": cursor}),
            (alice, "list_others", {"word": "a", "cursor": cursor}),
            (alice, "list_words", {"word": "b", "cursor": cursor}),
            (alice, "list_words", {"word": "a", "cursor": flipped}),
            *((alice, "list_words", {"word": "a", "cursor": nonsense}) for nonsense in ("", "10", "x" * 512, "é")),
        ):
            result = await client.call_tool(name, arguments)
            assert result.is_error, arguments
            assert "this cursor is unknown" in text(result)
        reasons = {event["details"]["reason"] for event in server.events("input_validation_failed")}
        assert reasons == {"unknown_cursor"}
        assert (await one(alice, "list_words", word="a", cursor=cursor))["items"][0] == "a-10"


async def test_a_cursor_says_nothing_of_what_it_holds(server: RunningServer) -> None:
    async with connected(server) as client:
        cursors = [(await one(client, "list_words", word="a"))["next_cursor"] for _ in range(2)]
    assert cursors[0] != cursors[1]
    assert len(cursors[0]) <= 512


async def test_the_sealed_answer_of_a_confirmation_is_no_cursor_and_the_other_way_round(server: RunningServer) -> None:
    """Both are sealed with the same key."""
    async with connected(server) as client:
        cursor = (await one(client, "list_words", word="a"))["next_cursor"]
        with pytest.raises(Exception, match=r"(?i)request.?state"):
            await client.session.call_tool("list_words", {"word": "a"}, request_state=cursor)


def test_outside_of_a_call_the_error_says_what_is_missing() -> None:
    with pytest.raises(LookupError, match="no tool is running"):
        paginate(list(range(100)), None)


async def test_the_documented_recipe() -> None:
    """The query of the documents, over the wire, until its last page."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)")
    database.executemany("INSERT INTO orders VALUES (?, 'open')", [(number,) for number in range(120)])
    documented = executed(code("state.md", "pages"))
    desk = documented["Desk"](database)
    mcp = GuardedServer("a-server", tools=[documented["find_orders"]], state=lambda: desk, events=EventLog())
    with server_for({"alice": ["*"]}, mcp) as running:
        async with connected(running) as client:
            seen, cursor = [], None
            for _ in range(3):
                found = await one(client, "find_orders", status="open", cursor=cursor)
                seen += found["items"]
                cursor = found["next_cursor"]
    assert cursor is None
    assert seen == list(range(120))
    database.close()
