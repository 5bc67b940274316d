"""A tool that calls another system: the caller's token does not go along, and a failure is blamed on the right side."""

import json
import socket
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from mcp.server.mcpserver import Context
from prometheus_client import REGISTRY
from pydantic import Field

from mcp_chassis import get_principal, tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.sinks import Programs, SafeFetcher, SafeRoot, Upstream, run_argv

from ..support.running import RunningServer, running_server
from .logs import log_lines

pytestmark = pytest.mark.anyio

EVENTS = EventLog()
SAID = "hunter2-of-the-caller"
_Text = Annotated[str, Field(max_length=100)]


def closed_port() -> int:
    """Return a port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


PORT = closed_port()


async def no_token() -> str:
    """Be a provider whose variable is empty."""
    return "Bearer "


@tool(read_only=True)
async def down(item: _Text) -> str:
    """Ask a service that is down."""
    async with Upstream(f"http://127.0.0.1:{PORT}/api") as upstream:
        return (await upstream.get("/items", item)).text()


@tool(read_only=True)
async def down_on_the_web(item: _Text) -> str:
    """Fetch from a name server that does not answer."""
    return (await SafeFetcher().get(f"https://93.184.215.14:443/{item}")).text()


@tool(read_only=True)
async def empty_token(item: _Text) -> str:
    """Send a credential that cannot be sent."""
    async with Upstream(f"http://127.0.0.1:{PORT}/api", authorization=no_token) as upstream:
        return (await upstream.get("/items", item)).text()


@tool(read_only=True)
async def header_from_a_value(item: _Text) -> str:
    """Put a value into a header, with a line break behind it."""
    return (await SafeFetcher().get("https://www.example.com/", headers={"X-Item": f"{item}\n"})).text()


@tool(read_only=True)
async def no_program(item: _Text) -> str:
    """Start a program that is not installed."""
    return (await run_argv(["convert", item], programs=Programs({"convert": None}))).stdout


@tool(read_only=True)
def no_root(item: _Text) -> str:
    """Read below a directory that is a file."""
    return SafeRoot(__file__).read_text(item)


@tool(read_only=True)
async def no_limit(item: _Text) -> str:
    """Fetch with a limit that nothing can keep."""
    return (await SafeFetcher(max_bytes=0).get(f"https://www.example.com/{item}")).text()


@tool(read_only=True)
async def spied(item: _Text, ctx: Context[Any, Any]) -> str:
    """Return all that a tool is given about its caller."""
    request = ctx.request_context.request
    seen = [repr(ctx.headers), repr(get_principal()), repr(getattr(request, "headers", "")), repr(vars(ctx))]
    return "\n".join([*seen, repr(getattr(request, "scope", ""))])


TOOLS = (down, down_on_the_web, empty_token, header_from_a_value, no_program, no_root, no_limit, spied)
UPSTREAM, OWN, CALLER = "upstream_failed", "crashed", "rejected"
FAULTS = {
    ("down", SAID): (UPSTREAM, f"http://127.0.0.1:{PORT}"),
    ("down_on_the_web", SAID): (UPSTREAM, "ConnectError"),
    ("empty_token", SAID): (OWN, "authorization"),
    ("header_from_a_value", SAID): (OWN, "X-Item"),
    ("no_program", SAID): (OWN, "convert is not installed"),
    ("no_root", SAID): (OWN, "Not a directory"),
    ("no_limit", SAID): (OWN, "max_bytes"),
    ("down", ".."): (CALLER, None),
    ("down_on_the_web", "\\"): (CALLER, None),
    ("no_root", "../x"): (CALLER, None),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server whose tools need others, and get it wrong."""
    with running_server(mcp=GuardedServer("needy", tools=TOOLS, events=EVENTS)) as running:
        yield running


def counted(name: str, outcome: str) -> float:
    """Return how many calls the metrics know."""
    labels = {"tool": name, "outcome": outcome}
    return REGISTRY.get_sample_value("mcp_tool_call_duration_seconds_count", labels) or 0


@pytest.mark.parametrize(("name", "item"), FAULTS)
def test_a_failure_is_reported_and_counted_as_the_fault_of_its_cause(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, name: str, item: str
) -> None:
    outcome, cause = FAULTS[name, item]
    if name == "down_on_the_web":
        connect = socket.socket.connect

        def refuse(self: socket.socket, address: Any) -> None:
            if address[0] != "127.0.0.1":
                raise ConnectionRefusedError(f"{address} is outside")
            connect(self, address)

        monkeypatch.setattr(socket.socket, "connect", refuse)
    before = counted(name, outcome)
    with log_lines("error") as lines, log_lines("audit") as audit:
        result = server.call(name, {"item": item}).json()["result"]
        answer = result["content"][0]["text"]
    event = EVENTS.recent(1)[0]
    assert result["isError"] is True
    assert answer.startswith("Invalid arguments") == (outcome == CALLER)
    assert event["event"] == ("input_validation_failed" if outcome == CALLER else "tool_execution_failed")
    assert event["severity"] == ("high" if outcome == OWN else "medium")
    assert [line["outcome"] for line in audit] == [outcome]
    assert counted(name, outcome) == before + 1
    causes = [line["cause"] for line in lines]
    if cause is None:
        assert causes == []
    else:
        (logged,) = causes
        assert cause in logged
        assert cause not in answer
    assert SAID not in json.dumps([answer, causes, event["details"]])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_tool_cannot_get_the_token_of_its_caller(server: RunningServer, mode: str) -> None:
    async with server.client(mode) as client:
        result = await client.call_tool("spied", {"item": "x"})
    shown = json.dumps(result.model_dump(mode="json"))
    assert server.key not in shown
    assert "bearer " not in shown.lower()
    assert "key:" in shown


def test_no_header_of_a_caller_that_may_be_a_credential_reaches_a_tool(server: RunningServer) -> None:
    sent = server.credentials | {"Cookie": f"session={SAID}", "X-Api-Key": SAID, "Proxy-Authorization": SAID}
    response = server.call("spied", {"item": "x"}, headers=sent)
    assert "X-Api-Key" not in response.text
    assert SAID not in response.text
    assert server.key not in response.text
