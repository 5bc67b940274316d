"""Scopes over HTTP: judged by the parsed message, refused with a challenge."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from mcp_chassis import tool
from mcp_chassis.auth.principal import Principal
from mcp_chassis.calls.record import Recorder
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.middleware.authorization import ScopeLayer
from mcp_chassis.middleware.request_body import RequestBodyLayer

from ..support.asgi import Answer, Endpoint, ask, http_scope

pytestmark = pytest.mark.anyio

ALICE = Principal("oauth:alice", "oauth")


@tool(destructive=False, scopes=["notes:delete", "notes:read"])
def delete() -> str:
    """Delete."""
    return ""


class Recording(Recorder):
    """Remembers the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def call(self, action: str, facts: Mapping[str, Any], *_: Any, **__: Any) -> None:
        """Remember one."""
        self.calls.append((action, dict(facts)))


class Setup:
    """The layer below the one that reads the body."""

    def __init__(self) -> None:
        self.inner, self.events = Endpoint(), EventLog()
        self.recorder = Recording()
        server = GuardedServer("notes", tools=(delete,), events=self.events, recorder=self.recorder)
        layer = ScopeLayer(self.inner, events=self.events, forbidden=server.forbidden, challenge='Bearer realm="mcp"')
        self.layer = RequestBodyLayer(layer, events=self.events, endpoint="/mcp", max_bytes=1000)

    async def post(self, body: bytes, *headers: tuple[bytes, bytes], path: str = "/mcp") -> Answer:
        scope = http_scope(path, method="POST", headers=[(b"content-type", b"application/json"), *headers])
        return await ask(self.layer, scope, [body], caller=ALICE)


def message(tool: str = "delete", number: object = 1) -> bytes:
    params = {"name": tool}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


async def test_a_call_beyond_the_scopes_is_a_403_that_names_them_all() -> None:
    setup = Setup()
    answer = await setup.post(message())
    assert answer.status == 403
    assert answer.header("www-authenticate") == (
        'Bearer realm="mcp", error="insufficient_scope", scope="notes:delete notes:read"'
    )
    error = answer.json()["error"]
    assert (answer.json()["id"], error["code"]) == (1, -32003)
    needed = ["notes:delete", "notes:read"]
    assert error["data"] == {"required_scopes": needed, "reason": "insufficient_scope", "tool": "delete"}
    assert setup.inner.calls == 0


async def test_it_is_a_forbidden_call_of_the_tool_in_the_audit_trail() -> None:
    setup = Setup()
    await setup.post(message())
    facts = {"principal": "oauth:alice", "tool": "delete", "outcome": "forbidden", "argument_bytes": {}}
    assert setup.recorder.calls == [("tool_call", facts)]
    await setup.post(b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "unknown"} }')
    assert len(setup.recorder.calls) == 1


async def test_it_leaves_an_event() -> None:
    setup = Setup()
    await setup.post(message())
    (event,) = setup.events.recent()
    assert (event["event"], event["identifier"], event["details"]["status"]) == ("http_error", "oauth:alice", 403)
    assert (event["details"]["tool"], event["details"]["reason"]) == ("delete", "insufficient_scope")
    assert event["details"]["scopes"] == ["notes:delete", "notes:read"]


async def test_a_call_within_the_scopes_passes_with_its_body() -> None:
    setup = Setup()
    assert (await setup.post(message("greet"))).status == 200
    assert setup.inner.bodies == [message("greet")]


async def test_headers_are_not_asked() -> None:
    setup = Setup()
    claims = [(b"mcp-method", b"tools/list"), (b"mcp-name", b"greet")]
    assert (await setup.post(message(), *claims)).status == 403
    claims = [(b"mcp-method", b"tools/call"), (b"mcp-name", b"delete")]
    assert (await setup.post(message("greet"), *claims)).status == 200


async def test_the_id_is_answered_as_it_was_sent() -> None:
    assert (await Setup().post(message(number="seven"))).json()["id"] == "seven"


@pytest.mark.parametrize(
    "body", [b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}', b'{"jsonrpc": "2.0", "id": 1, "result": {"name": "a"} }']
)
async def test_a_message_without_a_name_passes(body: bytes) -> None:
    assert (await Setup().post(body)).status == 200


async def test_other_paths_and_scopes_pass() -> None:
    setup = Setup()
    assert (await setup.post(message(), path="/other")).status == 200
    await ask(setup.layer, {"type": "lifespan"})
    assert setup.inner.calls == 2
