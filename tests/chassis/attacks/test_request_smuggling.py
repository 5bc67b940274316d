"""Requests whose end, path or framing two readers see in different places."""

import contextlib
import itertools
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from mcp_chassis.settings import load_settings

from ..support.running import RunningServer, running_server
from .wire import ACCEPT, JSON, key_of, request_text, send, with_key

PING = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}'


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server that ends idle connections soon."""
    with running_server(receive_timeout=1, keep_alive_timeout=1) as running:
        yield running


def statuses(received: bytes) -> list[int]:
    """Return the status of every response on a connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


@pytest.mark.parametrize(
    "framing",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5, 6"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5, 5"],
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


def flawed(server: RunningServer) -> dict[str, bytes]:
    """Return requests with the key that a proxy in front of the server may have read in another way."""
    host = f"127.0.0.1:{server.port}"
    post = request_text(server, "POST /mcp HTTP/1.1", with_key(server)).removesuffix(b"\r\n")
    chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
    size, body = f"{len(PING):x}".encode(), PING.encode()
    whole = post + f"Content-Length: {len(PING)}\r\n\r\n{PING}".encode()

    get = "GET /livez HTTP/1.1"

    def head(start: str, *lines: str) -> bytes:
        return "\r\n".join([start, *lines, "", ""]).encode()

    return {
        "two Content-Lengths that agree": whole.replace(b"Content-Length", b"Content-Length: 44\r\nContent-Length"),
        "a Content-Length and chunks": chunked.replace(b"Transfer", b"Content-Length: 44\r\nTransfer"),
        "two Hosts": head("GET /livez HTTP/1.1", f"Host: {host}", f"Host: {host}"),
        "two Hosts that differ": head("GET /livez HTTP/1.1", f"Host: {host}", "Host: evil.example"),
        "no Host": head("GET /livez HTTP/1.1"),
        "an empty Host": head("GET /livez HTTP/1.1", "Host:"),
        "a path in the Host": head("GET /mcp HTTP/1.1", "Host: a/health?"),
        "a user in the Host": head("GET /mcp HTTP/1.1", f"Host: a@{host}"),
        "two hosts in one": head("GET /mcp HTTP/1.1", f"Host: {host}, a"),
        "a bare LF after the request line": whole.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
        "a bare LF between headers": whole.replace(b"\r\nAuth", b"\nAuth"),
        "a bare LF in a value": whole.replace(b"\r\nAuth", b"\r\nX: a\nY: b\r\nAuth"),
        "a bare LF at the end of the head": head("GET /livez HTTP/1.1", f"Host: {host}")[:-2] + b"\n",
        "a bare CR": whole.replace(b"\r\nAuth", b"\r\nX: a\rY: b\r\nAuth"),
        "a space before the colon": whole.replace(b"Content-Length:", b"Content-Length :"),
        "a folded line": whole.replace(b"\r\nAuth", b"\r\nX: a\r\n b\r\nAuth"),
        "a folded length": whole.replace(b"Content-Length: ", b"Content-Length:\r\n\t"),
        "a request behind a line of one space": head(get, " ", get, f"Host: {host}"),
        "a request behind a line of one tab": head(get, "\t", get, f"Host: {host}"),
        "a line of white space behind the request line": whole.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\n \t \r\n"),
        "a space in front of the first header": whole.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\n "),
        "a space behind the version": whole.replace(b"HTTP/1.1\r\n", b"HTTP/1.1 \r\n"),
        "two spaces in the request line": whole.replace(b"POST ", b"POST  "),
        "a NUL in an offer of another protocol": whole.replace(b"\r\nAuth", b"\r\nUpgrade: \x00\r\nAuth"),
        "a folded offer of another protocol": whole.replace(b"\r\nAuth", b"\r\nUpgrade: h2c,\r\n h3\r\nAuth"),
        "a length with a leading zero": whole.replace(b"Content-Length: ", b"Content-Length: 0"),
        "a length of 19 digits": whole.replace(b"Content-Length: ", b"Content-Length: 10000000000000000"),
        "chunks in HTTP/1.0": chunked.replace(b"1.1", b"1.0") + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
        "a space behind the coding": chunked.replace(b"chunked", b"chunked ") + b"0\r\n\r\n",
        "a tab in front of the coding": chunked.replace(b": chunked", b":\tchunked") + b"0\r\n\r\n",
        "a space behind a length": whole.replace(b"\r\n\r\n", b" \r\n\r\n"),
        "the body of a GET": whole.replace(b"POST", b"GET"),
        "the body of a HEAD": whole.replace(b"POST /mcp", b"HEAD /livez"),
        "the chunked body of a DELETE": chunked.replace(b"POST", b"DELETE") + b"0\r\n\r\n",
        "an Expect of something else": whole.replace(b"\r\nAuth", b"\r\nExpect: 100-continue, x\r\nAuth"),
        "an Expect without a body": head("GET /livez HTTP/1.1", f"Host: {host}", "Expect: 100-continue"),
        "an Expect of an older client": whole.replace(b"1.1\r\n", b"1.0\r\nExpect: 100-continue\r\n"),
        "a port with a leading zero": head("GET /livez HTTP/1.1", f"Host: {host.replace(':', ':0')}"),
        "a backslash in the path": head("GET /livez/..\\livez HTTP/1.1", f"Host: {host}"),
        "half an escape in the path": head("GET /livez%2 HTTP/1.1", f"Host: {host}"),
        "a line without a colon": whole.replace(b"\r\nAuth", b"\r\nX\r\nAuth"),
        "an absolute URL": head(f"GET http://{host}/livez HTTP/1.1", f"Host: {host}"),
        "an absolute URL of the endpoint": whole.replace(b" /mcp", f" http://{host}/mcp".encode()),
        "a path to CONNECT to": head("CONNECT /livez HTTP/1.1", f"Host: {host}"),
        "a fragment": head("GET /livez#/../mcp HTTP/1.1", f"Host: {host}"),
        "another version": head("GET /livez HTTP/2.0", f"Host: {host}"),
        "no version": head("GET /livez", f"Host: {host}"),
        "a vertical tab for a space": whole.replace(b"Content-Length: ", b"Content-Length:\x0b"),
        "a host and a port": head(f"CONNECT {host} HTTP/1.1", f"Host: {host}"),
        "an asterisk": head("OPTIONS * HTTP/1.1", f"Host: {host}"),
        "a path without a slash": head("GET livez HTTP/1.1", f"Host: {host}"),
        "a chunk extension": chunked + size + b";a=b\r\n" + body + b"\r\n0\r\n\r\n",
        "an extension of the last chunk": chunked + size + b"\r\n" + body + b"\r\n0;a=b\r\n\r\n",
        "an endless chunk extension": chunked + size + b";" + b"a" * 60_000,
        "a space after a chunk size": chunked + size + b" \r\n" + body + b"\r\n0\r\n\r\n",
        "a bare LF after a chunk size": chunked + size + b"\n" + body + b"\r\n0\r\n\r\n",
        "a chunk longer than it says": chunked + b"2\r\n" + body + b"\r\n0\r\n\r\n",
        "a negative chunk size": chunked + b"-2\r\n" + body + b"\r\n0\r\n\r\n",
        "a chunk size of 16 digits": chunked + size.zfill(16) + b"\r\n" + body + b"\r\n0\r\n\r\n",
        "a chunk size with a prefix": chunked + b"0x" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
        "trailers": chunked + size + b"\r\n" + body + b"\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
        "chunks of one byte": chunked + b"1\r\n \r\n" * 4000,
        "a head of 30 KB in one piece": whole.replace(b"\r\nAuth", b"\r\nX: " + b"a" * 30_000 + b"\r\nAuth"),
        "five hundred headers": whole.replace(b"\r\nAuth", b"\r\na: b" * 500 + b"\r\nAuth"),
        "an empty line first": b"\r\n" + whole,
    }


FLAWS = list(flawed(RunningServer(load_settings(_env_file=None, api_key="0123456789abcdefghijklmnopqrstuv"), "")))


@pytest.mark.parametrize("flaw", FLAWS)
def test_http_that_two_parsers_could_interpret_differently_gets_a_400(server: RunningServer, flaw: str) -> None:
    answered = statuses(server.raw(flawed(server)[flaw] + request_text(server, "GET /livez HTTP/1.1")))
    assert answered == [400]


def test_no_more_requests_are_answered_than_were_sent(server: RunningServer) -> None:
    """Wherever in the head a line stands that a parser may take for its end, and a request behind it."""
    first = request_text(server, "POST /mcp HTTP/1.1", with_key(server), PING)
    last = request_text(server, "GET /livez HTTP/1.1", ["Connection: close"])
    edges = [match.end() for match in re.finditer(b"\r\n", first)][:-1]
    lines = (b" ", b"\t", b" \t", b"\r", b"\x00", b"\x0b", b"\x0c", b"\x85", b"\xa0", b":", b"\n", b" \n")
    for edge, line in itertools.product(edges, lines):
        attack = first[:edge] + line + b"\r\nGET /livez HTTP/1.1\r\n" + first[edge:] + last
        assert len(statuses(server.raw(attack))) <= 2, (edge, line)


def test_white_space_behind_a_value_is_no_part_of_it(server: RunningServer) -> None:
    """httptools keeps it."""
    headers = [("Authorization", f"Bearer {server.key} \t"), ("X-Request-ID", "request-1 ")]
    answer = send(server, "GET", "/security/events", headers)
    assert (answer.status, answer.header("X-Request-ID")) == (200, "request-1")


def test_the_same_request_without_a_flaw_is_served(server: RunningServer) -> None:
    whole = request_text(server, "POST /mcp HTTP/1.1", with_key(server), PING)
    head = request_text(server, "POST /mcp HTTP/1.1", with_key(server)).removesuffix(b"\r\n")
    chunks = "".join(f"{len(part):x}\r\n{part}\r\n" for part in (PING[:7], PING[7:], ""))
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks.encode()
    assert statuses(server.raw(whole + chunked + whole)) == [200, 200, 200]


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_offer_of_another_protocol_is_not_taken_up(server: RunningServer, protocol: str) -> None:
    """A parser that takes what follows for that protocol no longer sees where the request ends."""
    offer = ["Connection: Upgrade", f"Upgrade: {protocol}"]
    whole = request_text(server, "POST /mcp HTTP/1.1", with_key(server, *offer), PING)
    head = request_text(server, "POST /mcp HTTP/1.1", with_key(server, *offer)).removesuffix(b"\r\n")
    chunked = head + f"Transfer-Encoding: chunked\r\n\r\n{len(PING):x}\r\n{PING}\r\n0\r\n\r\n".encode()
    bare = request_text(server, "GET /livez HTTP/1.1", offer)
    assert statuses(server.raw(bare + whole + chunked + bare)) == [200, 200, 200, 200]


def test_a_flaw_that_arrives_byte_by_byte_is_found_too(server: RunningServer) -> None:
    for flaw in ("a bare LF between headers", "a folded line", "a chunk extension", "trailers"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for byte in flawed(server)[flaw]:
                    connection.sendall(bytes([byte]))
            except OSError:
                pass  # refused before its end
            received = b""
            try:
                while chunk := connection.recv(65536):
                    received += chunk
            except OSError:
                pass
        assert set(statuses(received)) <= {400}, flaw


def test_garbage_behind_a_request_that_was_refused_early_makes_no_noise(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer has been sent: a second one would be an exception in uvicorn, with a traceback for every attempt."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(request_text(server, "POST /mcp HTTP/1.1", ["Transfer-Encoding: chunked"]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        connection.sendall(b"zz\r\n")
        assert b"HTTP/1.1" not in b"".join(iter(lambda: connection.recv(65536), b"")), "a second answer"
    assert send(server, "GET", "/livez").status == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_unwanted_body_is_not_read_without_limit(server: RunningServer) -> None:
    """Reading it costs more than sending it, and needs no key."""
    limit = server.settings.max_body_bytes
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(request_text(server, "POST /mcp HTTP/1.1", [f"Content-Length: {50 * limit}"]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        connection.settimeout(0.3)
        body, sent = memoryview(bytes(40 * limit)), 0
        # Nothing more is taken. On a slow machine the deadline closes the connection before that time is over.
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < len(body):
                sent += connection.send(body[sent:])
        assert sent < 20 * limit, "beyond the limit and what the buffers of the system hold"


@pytest.mark.parametrize("length", [lambda limit: limit + 1, lambda limit: 20 * limit], ids=["a byte", "a lot"])
def test_who_sends_too_large_a_body_to_its_end_before_reading_still_gets_the_answer(
    server: RunningServer, length: Callable[[int], int]
) -> None:
    """As proxies do: a reset because of what was not read would discard the answer (RFC 9112, section 9.6)."""
    size = length(server.settings.max_body_bytes)
    request = request_text(server, "POST /mcp HTTP/1.1", [*with_key(server), f"Content-Length: {size}"])
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as connection:
            connection.sendall(request)
            with contextlib.suppress(TimeoutError):  # no more is taken
                connection.sendall(b"a" * size)
            assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("flaw", ["two Hosts", "a bare LF between headers", "a chunk extension"])
def test_who_sends_broken_http_to_its_end_before_reading_still_gets_the_answer(
    server: RunningServer, flaw: str
) -> None:
    request = flawed(server)[flaw]
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(request + b"a" * 900_000)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        assert statuses(received) == [400]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_sends_its_whole_body_before_reading_gets_the_401(server: RunningServer, version: str) -> None:
    """And closes the connection after every request, as nginx does by default."""
    framing = ["Connection: close", "Content-Length: 900000"]
    request = request_text(server, f"POST /mcp HTTP/{version}", framing) + b"a" * 900_000
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(request)
            assert b"".join(iter(lambda: connection.recv(65536), b"")).startswith(b"HTTP/1.1 401 ")


def test_who_is_refused_again_and_again_is_answered_each_time(server: RunningServer) -> None:
    """What is taken of refused bodies is bounded for each: in all, a connection would be left without a clock."""
    half, head = b"a" * 25_000, request_text(server, "POST /mcp HTTP/1.1", ["Content-Length: 50000"])
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head + half)
        for _ in range(60):
            answer = b""
            while not answer.endswith(b"}"):
                part = connection.recv(65536)
                assert part, "the connection has been closed"
                answer += part
            assert len(statuses(answer)) == 1
            connection.sendall(half + head + half)  # the end of one body, and the beginning of the next request


def test_who_leaves_at_once_after_broken_http_makes_no_noise(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Every attempt would be two tracebacks."""
    for request in (
        request_text(server, "HEAD /livez HTTP/1.1", ["Connection: close", "Content-Length: 10"]) + b"abc",
        request_text(server, "POST /mcp HTTP/1.1", ["Transfer-Encoding: chunked"]) + b"zz\r\n",
    ):
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
                connection.sendall(request)
    assert send(server, "GET", "/livez").status == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_refused_request_that_never_arrives_whole_is_not_waited_for_twice() -> None:
    """The keep-alive time-out is for those who have sent theirs."""
    started = time.monotonic()
    with (
        running_server(receive_timeout=1, keep_alive_timeout=60) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        connection.sendall(request_text(server, "POST /mcp HTTP/1.1", ["Content-Length: 1000"]) + b"abc")
        assert b"".join(iter(lambda: connection.recv(65536), b"")).startswith(b"HTTP/1.1 401 ")
    assert time.monotonic() - started < 15


def test_bytes_after_broken_http_are_not_read_without_limit(server: RunningServer) -> None:
    def send_without_end() -> None:
        while True:
            connection.sendall(b"a" * 1000)
            time.sleep(0.01)

    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"broken\r\n\r\n")
        with pytest.raises(ConnectionError):
            send_without_end()
    assert time.monotonic() - started < 4


def test_nothing_is_read_behind_a_refusal_of_a_body_that_may_never_come(server: RunningServer) -> None:
    """A client that asks with `Expect` may send its next request instead, and a proxy the request of another client."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        first = request_text(server, "POST /mcp HTTP/1.1", ["Expect: 100-continue", "Content-Length: 10"])
        connection.sendall(first)
        received = b"".join(iter(lambda: connection.recv(65536), b""))  # up to the end, which comes at once
    assert received.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in received.lower()
