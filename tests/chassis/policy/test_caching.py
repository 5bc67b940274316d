"""What clients may keep of a server whose tools, resources and prompts are fixed, and what it says of changes."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from mcp import Client

from ..support.callers import connected, headers, message, on_stdio, server_for
from ..support.running import RunningServer
from .test_scope_matrix import make_server

pytestmark = pytest.mark.anyio

LISTS = ["tools/list", "resources/list", "resources/templates/list", "prompts/list", "server/discover"]
WAYS = ["http", "stdio"]
CALLERS: dict[str, tuple[str, ...]] = {"all": ("*",), "reader": ("notes:read",)}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Two callers with different lists."""
    with server_for(CALLERS, make_server()) as running:
        yield running


async def clients(server: RunningServer, way: str, mode: str) -> AsyncIterator[Client]:
    """Yield one client. A fixture cannot: the tasks of a client belong to the test."""
    connection = (
        connected(server, mode=mode) if way == "http" else on_stdio(make_server.__module__, "make_server", mode=mode)
    )
    async with connection as client:
        yield client


@pytest.mark.parametrize("way", WAYS)
async def test_a_fixed_list_may_be_kept_by_its_caller(server: RunningServer, way: str) -> None:
    """The second time as well, when the guard itself answers with the list that it has kept."""
    async for client in clients(server, way, "auto"):
        for _ in range(2):
            answers: list[Any] = [
                await client.list_tools(cache_mode="bypass"),
                await client.list_resources(cache_mode="bypass"),
                await client.list_resource_templates(cache_mode="bypass"),
                await client.list_prompts(cache_mode="bypass"),
            ]
            assert {(answer.ttl_ms, answer.cache_scope) for answer in answers} == {(300_000, "private")}


@pytest.mark.parametrize("method", LISTS)
@pytest.mark.parametrize("caller", CALLERS)
def test_a_list_on_the_wire_is_private_to_its_caller(server: RunningServer, method: str, caller: str) -> None:
    answer = _ask(server, method, caller, "auto")
    assert (answer["ttlMs"], answer["cacheScope"]) == (300_000, "private")


@pytest.mark.parametrize("method", LISTS[:-1])
def test_older_clients_get_no_member_that_their_protocol_does_not_know(server: RunningServer, method: str) -> None:
    assert not {"ttlMs", "cacheScope"} & _ask(server, method, "all", "legacy").keys()


def test_what_may_change_may_not_be_kept(server: RunningServer) -> None:
    answer = _ask(server, "resources/read", "all", "auto", uri="about://us")
    assert (answer["ttlMs"], answer["cacheScope"]) == (0, "private")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("way", WAYS)
async def test_no_change_of_a_list_is_announced(server: RunningServer, way: str, mode: str) -> None:
    async for client in clients(server, way, mode):
        capabilities = client.server_capabilities
        parts = capabilities.tools, capabilities.resources, capabilities.prompts
        assert [part is not None and part.list_changed for part in parts] == [False] * 3
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe is (mode == "auto")  # of a resource's content


async def test_a_client_that_keeps_a_list_asks_once(server: RunningServer) -> None:
    """The point of it: the official client answers from what it has kept."""
    async with connected(server) as client:
        first = await client.list_tools()
        assert await client.list_tools() == first


def _ask(server: RunningServer, method: str, caller: str, mode: str, **params: Any) -> dict[str, Any]:
    fields = headers(server, method, params.get("uri", ""), mode=mode) | {"Authorization": f"Bearer {caller}"}
    answer = server.post(message(method, params, mode=mode), headers=fields)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result
