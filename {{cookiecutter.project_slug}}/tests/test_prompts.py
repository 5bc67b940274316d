"""Your prompts, rendered as a client renders them."""

import pytest
from mcp import MCPError
from mcp.types import INVALID_PARAMS, TextContent

from mcp_chassis.testing.running import RunningServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_introduce_names_whom_it_was_told(server: RunningServer, mode: str) -> None:
    async with server.client(mode) as client:
        assert "introduce" in [prompt.name for prompt in (await client.list_prompts()).prompts]
        (message,) = (await client.get_prompt("introduce", {"name": "Zoë"})).messages
        assert isinstance(message.content, TextContent)
        assert message.content.text == "Introduce Zoë in two friendly sentences."


@pytest.mark.parametrize("arguments", [{}, {"name": "a" * 101}, {"name": "$(rm -rf /)"}])
async def test_a_refused_argument_is_invalid_params(server: RunningServer, arguments: dict[str, str]) -> None:
    async with server.client() as client:
        with pytest.raises(MCPError) as error:
            await client.get_prompt("introduce", arguments)
        assert error.value.error.code == INVALID_PARAMS
        assert "rm -rf" not in error.value.error.message
