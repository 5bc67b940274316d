"""The results of the fast path against the SDK's own: the same wire form. And what it remembers is bounded."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import MCPError
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner
from mcp.types import Annotations, CallToolResult, ImageContent, TextContent
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from mcp_chassis import tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp import fast_path
from mcp_chassis.mcp.fast_path import DirectEntry
from mcp_chassis.mcp.guarded_server import GuardedServer

VERSIONS = [*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS]
SERVER: Server[Any] = Server("runner", version="1")

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
metas = st.none() | st.dictionaries(st.text(min_size=1), json_values, max_size=3)
texts = st.builds(
    TextContent,
    type=st.just("text"),
    text=st.text(),
    annotations=st.none() | st.just(Annotations(priority=0.5)),
    _meta=metas,
)
images = st.just(ImageContent(type="image", data="aGk=", mime_type="image/png"))
results = st.builds(
    CallToolResult,
    content=st.lists(st.one_of(texts, texts, texts, images), max_size=3),
    structured_content=st.none() | st.dictionaries(st.text(), json_values, max_size=3),
    is_error=st.booleans(),
    _meta=metas,
)


ENTRY = DirectEntry(SERVER)


@tool(read_only=True)
async def greet() -> str:
    """Greet."""
    return "Hello!"


def by_sdk(version: str, result: Any) -> str:
    """Return a result as the SDK sends it, the order of its members included."""
    runner = ServerRunner(SERVER, Connection.from_envelope(version, None, None), None)
    return json.dumps(runner._serialize("tools/call", version, result))


@pytest.mark.parametrize("version", VERSIONS)
@given(result=results)
def test_result_has_the_wire_form_of_the_sdk(version: str, result: CallToolResult) -> None:
    assert json.dumps(ENTRY._document(result, version)) == by_sdk(version, result)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_result_of_a_tool_is_left_as_it_was(version: str) -> None:
    result = CallToolResult(content=[TextContent(type="text", text="a")], _meta={"own": 1})
    before = result.model_dump()
    ENTRY._document(result, version)
    assert result.model_dump() == before


UNSOUND: list[dict[str, Any]] = [
    {"content": [TextContent.model_construct(type="html", text="a")]},
    {"content": [TextContent.model_construct(type="text", text=7)]},
    {"is_error": "yes"},
    {"is_error": None},
    {"result_type": None},
]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("changes", UNSOUND, ids=repr)
def test_result_that_breaks_the_model_is_judged_by_the_sdk(version: str, changes: dict[str, Any]) -> None:
    """A tool makes such a result with `model_construct`, or by assigning to one."""
    sound: dict[str, Any] = {"content": [], "is_error": False, "result_type": "complete"}
    result = CallToolResult.model_construct(**sound | changes)
    try:
        expected = by_sdk(version, result)
    except MCPError:
        with pytest.raises(MCPError):
            ENTRY._document(result, version)
    else:
        assert json.dumps(ENTRY._document(result, version)) == expected


def test_long_envelope_is_not_remembered() -> None:
    fast_path._is_valid.cache_clear()
    guarded = GuardedServer("test", tools=[greet], events=EventLog())
    guarded.middleware[:] = [one for one in guarded.middleware if type(one).__name__ != "OpenTelemetryMiddleware"]
    entry = DirectEntry(guarded._lowlevel_server, guarded)
    for size, remembered in ((3000, 0), (10, 1)):
        params = {"name": "greet", "arguments": {}, "_meta": {"note": "a" * size}}
        entry._plain_tool({"method": "tools/call", "params": params}, {}, "2025-11-25")
        assert fast_path._is_valid.cache_info().currsize == remembered


def test_no_more_than_256_envelopes_are_remembered() -> None:
    for number in range(400):
        fast_path._is_valid("2026-07-28", json.dumps({"note": number}).encode())
    assert fast_path._is_valid.cache_info().currsize == 256
