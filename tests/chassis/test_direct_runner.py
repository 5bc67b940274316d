"""The runner of the fast path against the SDK's own: the same wire form, and the same client."""

import json
import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner
from mcp.types import Annotations, CallToolResult, ImageContent, InputRequiredResult, TextContent
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from mcp_chassis.mcp import fast_path
from mcp_chassis.mcp.fast_path import DirectRunner, connect

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


def wire(kind: type[ServerRunner[Any]], version: str, result: Any) -> str:
    """Return a result as it is sent, the order of its members included."""
    return json.dumps(kind(SERVER, connect(version, None, None), None)._serialize("tools/call", version, result))


@pytest.mark.parametrize("version", VERSIONS)
@given(result=results)
def test_result_has_the_wire_form_of_the_sdk(version: str, result: CallToolResult) -> None:
    assert wire(DirectRunner, version, result) == wire(ServerRunner, version, result)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_result_of_a_tool_is_left_as_it_was(version: str) -> None:
    result = CallToolResult(content=[TextContent(type="text", text="a")], _meta={"own": 1})
    before = result.model_dump()
    wire(DirectRunner, version, result)
    assert result.model_dump() == before


def test_question_has_the_wire_form_of_the_sdk() -> None:
    question = InputRequiredResult(request_state="state")
    assert wire(DirectRunner, "2026-07-28", question) == wire(ServerRunner, "2026-07-28", question)


envelopes = (
    st.none()
    | json_values
    | st.fixed_dictionaries({"name": st.text(), "version": st.text()}, optional={"title": st.text()})
)
abilities = (
    st.none() | json_values | st.sampled_from(({}, {"elicitation": {}}, {"elicitation": {"form": {}}, "roots": {}}))
)


def facts(connection: Connection) -> tuple[Any, ...]:
    """Return what a connection says of its client."""
    return (
        connection.protocol_version,
        connection.client_params,
        connection.client_capabilities,
        connection.initialized.is_set(),
        connection.initialize_accepted,
    )


@pytest.mark.parametrize("version", VERSIONS)
@given(info=envelopes, capabilities=abilities)
def test_client_is_described_as_by_the_sdk(version: str, info: Any, capabilities: Any) -> None:
    expected = facts(Connection.from_envelope(version, info, capabilities))
    assert facts(connect(version, info, capabilities)) == expected
    assert facts(connect(version, info, capabilities)) == expected  # when it is remembered, too


def test_requests_of_one_client_share_nothing_that_changes() -> None:
    one, other = (connect("2026-07-28", {"name": "a", "version": "1"}, {}) for _ in range(2))
    assert one.exit_stack is not other.exit_stack
    assert one.state is not other.state
    assert one.initialized is not other.initialized


def test_clients_with_long_descriptions_are_not_remembered() -> None:
    fast_path._client.cache_clear()
    for _ in range(3):
        connect("2026-07-28", {"name": "a" * 3000, "version": secrets.token_hex(4)}, {})
    assert fast_path._client.cache_info().currsize == 0


def test_no_more_than_256_clients_are_remembered() -> None:
    for number in range(400):
        connect("2026-07-28", {"name": "a", "version": str(number)}, {})
    assert fast_path._client.cache_info().currsize == 256
