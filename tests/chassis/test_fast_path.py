"""`FAST_PATH`: with it and without it the answers on the wire are the same."""

from collections.abc import Iterator
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from mcp_chassis import prompt, resource, tool
from mcp_chassis.calls.output import Output
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp import sdk
from mcp_chassis.mcp.fast_path import DirectEntry
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.settings import load_settings

from .support.running import RunningServer, running_server, wait_until

NEWER, OLDER = "2026-07-28", "2025-11-25"
META = {"io.modelcontextprotocol/protocolVersion": NEWER, "io.modelcontextprotocol/clientCapabilities": {}}


@tool(read_only=True)
async def greet(name: str = "World") -> str:
    """Greet."""
    return f"Hello, {name}!"


@tool(read_only=True)
def refuse() -> str:
    """Fail as expected."""
    raise ToolError("There is no such note.")


@tool(read_only=True)
async def crash() -> str:
    """Fail."""
    raise RuntimeError("hunter2")


@tool()
async def erase(path: str) -> str:
    """Ask before doing it."""
    return path


@resource("test://fixed")
def fixed() -> str:
    """Return a text."""
    return "a text"


@prompt()
def ask_for(topic: str) -> str:
    """Return a prompt."""
    return f"About {topic}"


MESSAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "list of tools": ("tools/list", {}),
    "call": ("tools/call", {"name": "greet", "arguments": {"name": "Ann"}}),
    "wrong argument": ("tools/call", {"name": "greet", "arguments": {"name": 7}}),
    "further argument": ("tools/call", {"name": "greet", "arguments": {"other": 7}}),
    "anticipated failure": ("tools/call", {"name": "refuse", "arguments": {}}),
    "crash": ("tools/call", {"name": "crash", "arguments": {}}),
    "confirmation": ("tools/call", {"name": "erase", "arguments": {"path": "a"}}),
    "unknown tool": ("tools/call", {"name": "nothing", "arguments": {}}),
    "list of resources": ("resources/list", {}),
    "list of templates": ("resources/templates/list", {}),
    "resource": ("resources/read", {"uri": "test://fixed"}),
    "unknown resource": ("resources/read", {"uri": "test://nothing"}),
    "list of prompts": ("prompts/list", {}),
    "prompt": ("prompts/get", {"name": "ask_for", "arguments": {"topic": "x"}}),
    "prompt without its argument": ("prompts/get", {"name": "ask_for", "arguments": {}}),
    "another method": ("ping", {}),
    "unknown method": ("no/such/method", {}),
}


def start(*, fast_path: bool) -> Any:
    """Return a server of everything above, to be entered."""
    events = EventLog()
    mcp = GuardedServer(
        "paths",
        tools=(greet, refuse, crash, erase),
        resources=(fixed,),
        prompts=(ask_for,),
        events=events,
        output=Output(events=events, mark=False),  # no two marks are the same
    )
    return running_server(mcp, fast_path=fast_path)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[bool, RunningServer]]:
    """One server with the fast path and one without it."""
    with start(fast_path=True) as fast, start(fast_path=False) as slow:
        yield {True: fast, False: slow}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the fast path returns: whether it has served a message."""
    served: list[bool] = []
    serve = DirectEntry.serve

    async def counted(self: DirectEntry, *request: Any) -> bool:
        served.append(await serve(self, *request))
        return served[-1]

    monkeypatch.setattr(DirectEntry, "serve", counted)
    return served


def answer(server: RunningServer, method: str, params: dict[str, Any], version: str) -> tuple[int, str | None, Any]:
    """Return the status, the media type and the document of an answer."""
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": version}
    if version == NEWER:
        params = params | {"_meta": META}
        headers["Mcp-Method"] = method
        if name := params.get("name") or params.get("uri"):
            headers["Mcp-Name"] = name
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    response = server.post(message, headers={**server.credentials, **headers})
    return response.status_code, response.headers.get("content-type"), response.json()


@pytest.mark.parametrize("version", [NEWER, OLDER])
@pytest.mark.parametrize("what", MESSAGES)
def test_an_answer_is_the_same_with_and_without_it(
    servers: dict[bool, RunningServer], taken: list[bool], what: str, version: str
) -> None:
    method, params = MESSAGES[what]
    without = answer(servers[False], method, params, version)
    assert taken == [], "FAST_PATH=false has to switch it off"
    assert answer(servers[True], method, params, version) == without
    # Whether an unknown tool marks arguments for headers is for the SDK to say.
    is_left_to_the_sdk = method in {"ping", "no/such/method"} or (what == "unknown tool" and version == NEWER)
    wait_until(lambda: taken == [not is_left_to_the_sdk])


@pytest.mark.parametrize("version", [NEWER, OLDER])
@pytest.mark.parametrize("fast_path", [True, False])
def test_the_text_of_an_error_that_nothing_expects_is_not_sent(
    servers: dict[bool, RunningServer], monkeypatch: pytest.MonkeyPatch, fast_path: bool, version: str
) -> None:
    async def broken(*_: Any) -> None:
        raise LookupError("hunter2")

    monkeypatch.setattr(sdk.Tool, "run", broken)
    for method in ("read_resource", "get_prompt"):
        monkeypatch.setattr(MCPServer, method, broken)
    for what in ("call", "resource", "prompt"):
        _, _, document = answer(servers[fast_path], *MESSAGES[what], version)
        assert "hunter2" not in str(document), what
        assert "error" in document or document["result"]["isError"], what


def test_it_is_on_unless_a_setting_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(_env_file=None, enable_auth=False).fast_path
    monkeypatch.setenv("FAST_PATH", "false")
    assert not load_settings(_env_file=None, enable_auth=False).fast_path
