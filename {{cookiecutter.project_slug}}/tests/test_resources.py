"""Your resources, read as a client reads them."""

import pytest
from mcp.types import TextResourceContents

from mcp_chassis.testing.running import RunningServer

from {{ cookiecutter.package_name }} import __version__

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_about_says_what_runs(server: RunningServer, mode: str) -> None:
    async with server.client(mode) as client:
        assert "about://server" in [str(resource.uri) for resource in (await client.list_resources()).resources]
        (content,) = (await client.read_resource("about://server")).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == f"A secured MCP server, version {__version__}."
        assert content.mime_type == "text/plain"
