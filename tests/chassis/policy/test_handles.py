"""Handles: state between calls that is worth nothing to any caller but the one it was made for."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from mcp_chassis import handles, tool
from mcp_chassis.auth.principal import Principal, current_principal
from mcp_chassis.calls import running as keeping
from mcp_chassis.calls.running import HandleStore, Keeping, RunningCall, begin
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp import sdk
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.replicas import handles as shared
from mcp_chassis.replicas.connection import SharedRedis
from mcp_chassis.replicas.handles import SharedHandles
from mcp_chassis.sinks import InvalidInput

from ..support.callers import MODES, connected, on_stdio, server_for
from ..support.documents import code, executed
from ..support.redis import Redis, running_redis
from ..support.running import RunningServer, text

pytestmark = pytest.mark.anyio

Handle = Annotated[str, Field(max_length=64)]
ALICE = Principal("key:alice", "key")


@tool(scopes=(), read_only=True)
async def begin_search(query: Annotated[str, Field(max_length=100)]) -> str:
    """Begin."""
    return await handles.put({"query": query, "seen": [1, 2]}, ttl=60)


@tool(scopes=(), read_only=True)
async def go_on(handle: Handle) -> str:
    """Go on."""
    return str(await handles.get(handle))


def make_server() -> GuardedServer:
    return GuardedServer("a-server", tools=[begin_search, go_on], events=EventLog())


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with server_for({"alice": ["*", "events:read"], "bob": ["*"]}, make_server()) as running:
        yield running


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with running_redis() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Each of the places where values are kept, with alice as the caller."""
    if request.param == "memory":
        one: Any = HandleStore()
        a_caller(ALICE, one)
        yield one
    else:
        connection = SharedRedis(request.getfixturevalue("redis").url, project="project", timeout=5)
        await connection.client.flushall()
        one = SharedHandles(connection, [b"k" * 32])
        a_caller(ALICE, one)
        yield one
        await connection.close()


def a_caller(principal: Principal, store: Any) -> None:
    current_principal.set(principal)
    codec = sdk.RequestStateSecurity(keys=[b"k" * 32]).codec
    begin(RunningCall("a_tool", {}, Keeping(codec, store)))


@pytest.mark.parametrize("mode", MODES)
async def test_a_stolen_handle_is_as_unknown_as_an_invented_one(server: RunningServer, mode: str) -> None:
    async with connected(server, mode=mode) as alice, connected(server, name="bob", mode=mode) as bob:
        handle = text(await alice.call_tool("begin_search", {"query": "q"}))
        assert "'query': 'q'" in text(await alice.call_tool("go_on", {"handle": handle}))
        before = len(server.events("input_validation_failed"))
        stolen = await bob.call_tool("go_on", {"handle": handle})
        invented = await bob.call_tool("go_on", {"handle": "x" * 43})
        assert stolen.is_error
        assert text(stolen) == text(invented)
        assert "this handle is unknown" in text(stolen)
        assert "'query': 'q'" in text(await alice.call_tool("go_on", {"handle": handle})), "it is still alice's"
    events = server.events("input_validation_failed")
    assert len(events) == before + 2
    assert {(event["identifier"], event["details"]["reason"]) for event in events} == {("key:bob", "unknown_handle")}


async def test_the_documented_recipe() -> None:
    documented = executed(code("state.md", "handles"))
    tools = [documented["begin_order"], documented["add_to_order"]]
    mcp = GuardedServer("a-server", tools=tools, events=EventLog())
    with server_for({"alice": ["*"]}, mcp) as running:
        async with connected(running) as client:
            first = text(await client.call_tool("begin_order", {"item": "a"}))
            second = text(await client.call_tool("add_to_order", {"handle": first, "item": "b"}))
            assert not (await client.call_tool("add_to_order", {"handle": second, "item": "c"})).is_error


async def test_handles_work_over_stdio() -> None:
    async with on_stdio(__name__, "make_server") as client:
        handle = text(await client.call_tool("begin_search", {"query": "q"}))
        assert "'seen': [1, 2]" in text(await client.call_tool("go_on", {"handle": handle}))


async def test_a_handle_is_of_the_caller_with_these_claims(store: Any) -> None:
    """A person with accounts in two tenants must not carry rows from one into the other."""
    handle = await handles.put("of alice")
    for other in (
        Principal("key:bob", "key"),
        Principal("key:alice", "oauth"),
        Principal("key:alice", "key", claims={"tenant": "acme"}),
    ):
        a_caller(other, store)
        with pytest.raises(InvalidInput, match="unknown"):
            await handles.get(handle)
    a_caller(Principal("key:alice", "key", frozenset({"a"})), store)
    assert await handles.get(handle) == "of alice", "another credential of the same caller"


async def test_a_handle_cannot_be_guessed(store: Any) -> None:
    made = {await handles.put(number) for number in range(20)}
    assert len(made) == 20
    assert all(len(handle) == 43 for handle in made), "256 bits"


async def test_a_handle_ends(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = await handles.put("soon gone", ttl=0.2)
    assert await handles.get(handle) == "soon gone"
    time.sleep(0.25)  # noqa: ASYNC251
    with pytest.raises(InvalidInput, match="unknown"):
        await handles.get(handle)


@pytest.mark.parametrize("handle", ["", "x" * 65, "\ud800", "*", "a\x00b"], ids=repr)
async def test_nonsense_is_unknown(store: Any, handle: str) -> None:
    with pytest.raises(InvalidInput, match="unknown"):
        await handles.get(handle)


@pytest.mark.parametrize(("value", "ttl"), [("x" * 8_191, 60), ("x", 0), ("x", -1), ("x", 86_401), ("x", float("nan"))])
async def test_a_value_that_is_too_large_or_kept_too_long_is_the_tools_mistake(
    store: Any, value: str, ttl: float
) -> None:
    with pytest.raises(ValueError, match="at most"):
        await handles.put(value, ttl=ttl)


async def test_many_handles_of_one_caller_push_out_only_its_own(store: Any) -> None:
    a_caller(Principal("key:bob", "key"), store)
    bobs = await handles.put("bob")
    a_caller(ALICE, store)
    made = [await handles.put(number, ttl=60 + number) for number in range(40)]
    for number, handle in enumerate(made):
        if number < 8:
            with pytest.raises(InvalidInput):
                await handles.get(handle)
        else:
            assert await handles.get(handle) == number
    a_caller(Principal("key:bob", "key"), store)
    assert await handles.get(bobs) == "bob"


async def test_callers_together_cannot_fill_the_server(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (keeping, shared):
        monkeypatch.setattr(module, "MAX_HANDLES", 3)
    short = [await handles.put(number, ttl=0.2) for number in range(2)]
    a_caller(Principal("key:bob", "key"), store)
    bobs = await handles.put("bob")
    with pytest.raises(ToolError, match="anything more"):
        await handles.put("one more")
    assert await handles.get(bobs) == "bob"
    time.sleep(0.25)  # noqa: ASYNC251
    assert await handles.get(await handles.put("there is room again"))
    assert short


async def test_the_largest_value_is_kept(store: Any) -> None:
    assert await handles.get(await handles.put("x" * 8_190)) == "x" * 8_190


async def test_redis_holds_no_value_in_plain_text_and_accepts_none_of_another_place(redis: Redis) -> None:
    connection = SharedRedis(redis.url, project="project", timeout=5)
    await connection.client.flushall()
    one, other = (SharedHandles(connection, [b"k" * 32]) for _ in range(2))
    a_caller(ALICE, one)
    handle = await handles.put("secret of alice")
    (stored,) = [key async for key in connection.client.scan_iter("project:handle:*")]
    sealed: Any = await connection.client.get(stored)
    assert "secret" not in str(sealed)
    a_caller(ALICE, other)
    assert await handles.get(handle) == "secret of alice", "from another replica"
    bobs = await _put_as_bob(other)
    await connection.client.set(await _place_of_bob(connection, str(stored)), sealed)
    with pytest.raises(InvalidInput, match="unknown"):
        await handles.get(bobs)
    a_caller(ALICE, SharedHandles(connection, [b"n" * 32]))
    with pytest.raises(InvalidInput, match="unknown"):
        await handles.get(handle)
    await connection.close()


async def _put_as_bob(store: SharedHandles) -> str:
    a_caller(Principal("key:bob", "key"), store)
    return await handles.put("of bob")


async def _place_of_bob(connection: SharedRedis, alices: str) -> str:
    (place,) = [key async for key in connection.client.scan_iter("project:handle:*") if key != alices]
    return str(place)


async def test_without_redis_nothing_is_called_unknown(redis: Redis) -> None:
    connection = SharedRedis("redis://127.0.0.1:1/0", project="project")
    a_caller(ALICE, SharedHandles(connection, [b"k" * 32]))
    for question in (handles.put("x"), handles.get("x")):
        with pytest.raises(ToolError, match="cannot be reached"):
            await question
    await connection.close()
