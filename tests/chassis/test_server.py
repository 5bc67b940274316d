"""The MCP server with what the team lists: nothing less, and nothing more."""

from collections.abc import Iterator

import pytest

from mcp_chassis import service as server
from mcp_chassis.auth.principal import STDIO, current_principal
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.parts import Parts
from mcp_chassis.settings import load_settings
from secure_mcp_server import __version__
from secure_mcp_server.prompts import PROMPTS
from secure_mcp_server.resources import RESOURCES
from secure_mcp_server.server import SERVER
from secure_mcp_server.tools import TOOLS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def built() -> GuardedServer:
    settings = load_settings(_env_file=None, enable_auth=False)
    return server.build_server(SERVER, Parts(settings=settings, name=SERVER.name, version=SERVER.version))


@pytest.fixture(autouse=True)
def _caller() -> Iterator[None]:
    """A caller with all scopes: what is listed is what a caller may use."""
    before = current_principal.set(STDIO)
    yield
    current_principal.reset(before)


def test_it_is_named_after_the_package(built: GuardedServer) -> None:
    assert built.name == "secure-mcp-server" == SERVER.name
    assert built.version == __version__


async def test_it_has_the_tools_that_are_listed(built: GuardedServer) -> None:
    assert [tool.name for tool in await built.list_tools()] == [function.__name__ for function in TOOLS]


async def test_every_tool_tells_the_model_what_it_does_and_takes_nothing_else(built: GuardedServer) -> None:
    for tool in await built.list_tools():
        assert tool.description, f"{tool.name} needs a docstring: it is what the model reads"
        assert tool.input_schema["additionalProperties"] is False


async def test_it_has_the_resources_and_prompts_that_are_listed(built: GuardedServer) -> None:
    resources = [*await built.list_resources(), *await built.list_resource_templates()]
    assert len(resources) == len(RESOURCES)
    assert [prompt.name for prompt in await built.list_prompts()] == [function.__name__ for function in PROMPTS]
