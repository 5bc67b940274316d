"""The smallest tool, called as every caller calls it: by the official client, through all layers."""

import pytest

from mcp_chassis.sinks import InvalidInput
from mcp_chassis.testing.running import RunningServer, text

from {{ cookiecutter.package_name }}.tools.hello import hello_world

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", ["World", "Zoë O'Brien", "毛泽东"])
async def test_it_greets(name: str) -> None:
    assert await hello_world(name) == f"Hello, {name}!"


async def test_it_greets_the_world_without_a_name() -> None:
    assert await hello_world() == "Hello, World!"


async def test_it_refuses_shell_syntax() -> None:
    with pytest.raises(InvalidInput):
        await hello_world("$(rm -rf /)")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_clients_of_both_protocol_eras_can_call_it(server: RunningServer, mode: str) -> None:
    async with server.client(mode) as client:
        assert "hello_world" in [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("hello_world", {"name": "Hello World"})
        assert text(result) == "Hello, Hello World!"
        assert not result.is_error


@pytest.mark.parametrize("name", ["", "a" * 101, "$(rm -rf /)"])
async def test_a_refused_name_is_an_error_that_the_model_can_read(server: RunningServer, name: str) -> None:
    async with server.client() as client:
        result = await client.call_tool("hello_world", {"name": name})
        assert result.is_error
        assert text(result).startswith("Invalid arguments: ")
