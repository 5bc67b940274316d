"""The same tools over standard input and output."""

import os
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from .support.project import PACKAGE
from .support.running import text


@pytest.mark.anyio
async def test_the_official_client_can_call_a_tool_without_a_key(tmp_path: Path) -> None:
    """The operating system has judged the user that starts the process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = ["-P", "-m", PACKAGE, "stdio"]
    parameters = StdioServerParameters(command=sys.executable, args=command, cwd=tmp_path, env=environment)
    with (tmp_path / "log").open("w") as log:
        async with Client(stdio_client(parameters, errlog=log)) as client:
            result = await client.call_tool("hello_world", {"name": "World"})
            assert text(result) == "Hello, World!"
            assert (await client.call_tool("hello_world", {"name": "$(id)"})).is_error
    lines = (tmp_path / "log").read_text()
    assert '"principal":"stdio"' in lines
    assert '"transport":"stdio"' in lines


@pytest.mark.anyio
async def test_calls_over_stdio_are_in_the_audit_trail(tmp_path: Path) -> None:
    settings = {"AUDIT_FILE": str(tmp_path / "audit.jsonl"), "AUDIT_KEY": "sT4vQ9xL2mZ7bN1kR6wY3hF8dJ5gC0aP"}
    environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = ["-P", "-m", PACKAGE, "stdio"]
    parameters = StdioServerParameters(command=sys.executable, args=command, cwd=tmp_path, env=environment)
    with (tmp_path / "log").open("w") as log:
        async with Client(stdio_client(parameters, errlog=log)) as client:
            await client.call_tool("hello_world", {"name": "World"})
    lines = (tmp_path / "audit.jsonl").read_text()  # the process has ended, so all is written
    assert '"mcp.tool":"hello_world"' in lines
    assert '"user.id":"stdio"' in lines
    assert "http." not in lines
