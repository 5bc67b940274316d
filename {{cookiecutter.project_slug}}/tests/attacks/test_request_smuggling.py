"""Requests whose end, path or framing two readers see in different places."""

import re
from collections.abc import Iterator

import pytest

from ..support.running import RunningServer, running_server
from .wire import ACCEPT, JSON, key_of, request_text, send

PING = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}'


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server that ends idle connections soon."""
    with running_server(receive_timeout=1, keep_alive_timeout=1) as running:
        yield running


def statuses(received: bytes) -> list[int]:
    """Return the status of every response on a connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def with_key(server: RunningServer, *headers: str) -> list[str]:
    """Return the headers of an MCP request, and more."""
    credentials = f"Authorization: Bearer {server.key}"
    return [credentials, "Content-Type: application/json", "Accept: application/json, text/event-stream", *headers]


@pytest.mark.parametrize(
    "framing",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5, 6"],
        ["Content-Length: +5"],
        ["Content-Length: -5"],
        ["Content-Length: 0x5"],
        ["Content-Length: 5 5"],
        ["Content-Length: " + "9" * 100],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: chunked, gzip"],
        ["Transfer-Encoding: identity", "Content-Length: 5"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    ],
)
def test_a_request_with_two_ends_is_refused_and_what_follows_is_not_served(
    server: RunningServer, framing: list[str]
) -> None:
    hidden = request_text(server, "GET /livez HTTP/1.1")
    attack = request_text(server, "POST /mcp HTTP/1.1", with_key(server, *framing)) + b"0\r\n\r\n" + hidden
    answered = statuses(server.raw(attack))
    assert answered in ([], [400], [413], [501]), answered


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\xff\xfe garbage \r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n: empty\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX\x00Y: 1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"GET /li\xffvez HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_garbage_is_refused_and_the_connection_closed(server: RunningServer, data: bytes) -> None:
    assert set(statuses(server.raw(data))) <= {400, 421}


@pytest.mark.parametrize("header", ["X-Bomb: " + "a" * 20_000, "\r\n".join(f"X-{n}: {'a' * 100}" for n in range(300))])
def test_a_header_bomb_is_refused_before_it_is_held_in_memory(server: RunningServer, header: str) -> None:
    head = f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{header}\r\n".encode()
    assert statuses(server.raw(head)) == [400]  # although it never ends


@pytest.mark.parametrize(
    "path",
    [
        "/mcp/..%2fhealth",
        "/health/../mcp",
        "/livez%2f..%2fmcp",
        "/livez/..;/mcp",
        "/livez;/../mcp",
        "//mcp",
        "/MCP",
        "/mcp/",
        "/mcp%2f",
        "/mcp%0a",
        "/mcp%00",
        "/mcp%20",
        "/mcp%3f",
        "/mcp;a=b",
        "/mcp.json",
        "/%2e/mcp",
        "/./mcp",
        "/%6d%63%70",
        "/%256d%2563%2570",
        "/health/..%2f..%2fsecurity/events",
        "/security/events%0a",
        "/security//events",
        "/security/events;/livez",
        "/SECURITY/EVENTS",
        "/security%2fevents",
        "/livez%2f..%2fsecurity%2fevents",
        "http://127.0.0.1/mcp",
        "http://127.0.0.1/livez/../mcp",
        "/livez\\..\\mcp",
        "*",
    ],
)
def test_no_spelling_of_a_path_opens_a_door_without_the_key(server: RunningServer, path: str) -> None:
    for method in ("GET", "POST"):
        assert send(server, method, path, [JSON, ACCEPT], PING.encode()).status in {400, 401}, method


@pytest.mark.parametrize("path", ["/mcp%0a", "/mcp%0d", "/mcp/", "//mcp", "/MCP", "/mcp%00", "/./mcp"])
def test_no_spelling_of_a_path_goes_around_the_check_of_the_body(server: RunningServer, path: str) -> None:
    """Starlette's patterns accept a final newline: layers that compare paths must not be the only ones to know."""
    batch = f"[{PING}]".encode()
    assert send(server, "POST", path, [key_of(server), JSON, ACCEPT], batch).status == 404
    assert send(server, "POST", path, [key_of(server), ACCEPT], PING.encode()).status == 404


def test_no_redirect_can_be_made_to_point_elsewhere(server: RunningServer) -> None:
    for path in ("/mcp/", "//evil.example/", "/health/", "/livez/", "//evil.example/%2f.."):
        answer = send(server, "GET", path, [key_of(server)])
        assert answer.status == 404
        assert answer.header("Location") is None


def test_a_second_request_on_a_connection_does_not_inherit_the_key(server: RunningServer) -> None:
    first = request_text(server, "POST /mcp HTTP/1.1", with_key(server), PING)
    bare = ["Content-Type: application/json", "Accept: application/json, text/event-stream", "Connection: close"]
    second = request_text(server, "POST /mcp HTTP/1.1", bare, PING)
    assert statuses(server.raw(first + second)) == [200, 401]
    events = ["Connection: close"]
    assert statuses(server.raw(first + request_text(server, "GET /security/events HTTP/1.1", events))) == [200, 401]
