"""Making a browser run, frame, sniff or keep what this server says, and learning what it runs on."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from mcp.server.mcpserver import Context

from mcp_chassis import tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.callers import MODES, headers, message
from ..support.running import RunningServer, running_server
from .wire import ACCEPT, JSON, Answer, key_of, post, send

EXPECTED = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
LIST = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server that is easily exceeded, with one place for a caller without the key."""
    with running_server(max_body_bytes=1024) as running:
        yield running


def answers(server: RunningServer) -> dict[int, Answer]:
    """Return one answer of each status that the application gives."""
    key = key_of(server)
    found = [
        post(server, LIST),
        send(server, "GET", "/health"),
        send(server, "GET", "/livez"),
        send(server, "GET", "/security/events", [key]),
        send(server, "GET", "/security/events?limit=x", [key]),
        send(server, "GET", "/mcp"),
        send(server, "GET", "/mcp", [("Authorization", "Bearer invalid-key")]),
        send(server, "GET", "/health", [("Origin", "https://evil.example")]),
        send(server, "GET", "/nothing", [key]),
        send(server, "GET", "/mcp", [key]),
        send(server, "POST", "/mcp", [key, JSON, ("Accept", "text/html")], LIST),
        post(server, b" " * 1025),
        post(server, LIST, [("Content-Type", "text/plain")]),
        send(server, "GET", "/health", host="evil.example"),
    ]
    with running_server(max_requests_per_minute=1) as small:
        found += [send(small, "GET", "/health") for _ in range(2)]
    return {answer.status: answer for answer in found}


def test_every_answer_tells_a_browser_to_treat_it_as_data(server: RunningServer) -> None:
    given = answers(server)
    assert given.keys() == {200, 400, 401, 403, 404, 405, 406, 413, 415, 421, 429}
    for status, answer in given.items():
        assert {name: answer.header(name) for name in EXPECTED} == EXPECTED, status
        assert answer.header("X-Request-ID"), status
        assert "html" not in (answer.header("Content-Type") or ""), status


@tool(read_only=True)
async def count(ctx: Context[Any, Any]) -> str:
    """Report progress: the answer becomes a stream."""
    await ctx.report_progress(1, 1, "counted")
    return "counted"


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_is_not_stored_either(mode: str) -> None:
    """The SDK gives it `no-cache`, with which a cache may store it (RFC 9111, section 5.2.2.4)."""
    params = {"name": "count", "arguments": dict[str, str](), "_meta": {"progressToken": 1}}
    with running_server(GuardedServer("streams", tools=(count,), events=EventLog())) as server:
        asked = message("tools/call", params, mode=mode)
        answer = server.post(asked, headers=headers(server, "tools/call", "count", mode=mode))
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    stored = {"cache-control": "no-cache, no-transform, no-store"}
    assert {name: answer.headers[name] for name in EXPECTED} == EXPECTED | stored


def test_an_answer_below_the_application_tells_a_browser_the_same(server: RunningServer) -> None:
    found = [send(server, "GET", "/livez", host="a/b"), send(server, "GETS", "/livez")]
    limits: list[dict[str, Any]] = [{"max_connections_per_address": 1}, {"max_connections": 1}]
    for limit in limits:
        with running_server(**limit) as small, socket.create_connection(("127.0.0.1", small.port)):
            found.append(send(small, "GET", "/livez"))
    assert [answer.status for answer in found] == [400, 400, 429, 503]
    for answer in found:
        assert {name: answer.header(name) for name in EXPECTED} == EXPECTED, answer
        assert answer.header("Connection") == "close"


def test_no_answer_names_the_software(server: RunningServer) -> None:
    for answer in answers(server).values():
        names = {name.lower() for name, _ in answer.headers}
        assert names.isdisjoint({"server", "x-powered-by", "via"})
        assert not any(word in answer.text.lower() for word in ("uvicorn", "starlette", "pydantic", "traceback"))


def test_https_is_insisted_on_only_where_it_is_served(server: RunningServer) -> None:
    assert send(server, "GET", "/health").header("Strict-Transport-Security") is None
    with running_server(public_url="https://mcp.example.com") as public:
        answer = send(public, "GET", "/health", host="mcp.example.com")
        assert "max-age=" in (answer.header("Strict-Transport-Security") or "")


def test_an_error_page_cannot_carry_a_script(server: RunningServer) -> None:
    for path in ("/%3Cscript%3Ealert(1)%3C/script%3E", "/security/events?limit=%3Cscript%3E&event=%3Cscript%3E"):
        answer = send(server, "GET", path, [key_of(server), ACCEPT])
        assert answer.status in {400, 404}
        assert "<script" not in answer.text


def test_a_request_id_cannot_smuggle_a_header_or_a_value(server: RunningServer) -> None:
    claims = (b"short", b"x" * 65, b"a" * 20 + b"\xff", b"<script>alert(1)</script>", "номер-заявки".encode())
    for claim in claims:
        answer = send(server, "GET", "/health", [("X-Request-ID", claim)])
        assert (answer.header("X-Request-ID") or "").encode("latin-1") != claim
    twice = [("X-Request-ID", "first-request"), ("X-Request-ID", "other-request")]
    assert send(server, "GET", "/health", twice).header("X-Request-ID") not in {"first-request", "other-request"}
    assert send(server, "GET", "/health", twice[:1]).header("X-Request-ID") == "first-request"
