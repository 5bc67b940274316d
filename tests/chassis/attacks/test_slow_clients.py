"""Holding connections open: silence, half requests, and more connections than there is room for."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import anyio
import pytest

from mcp_chassis import tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.running import RunningServer, running_server, wait_until
from .wire import call, open_connections, request_text, seconds_until_closed, send, with_key

DEADLINE = 0.4
PING = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}'


@tool(read_only=True)
async def take_your_time(seconds: float) -> str:
    """Take longer than a client may take to send its request."""
    await anyio.sleep(seconds)
    return "finished"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server that does not wait long for requests, with a tool that takes long to answer."""
    mcp = GuardedServer("slow", tools=(take_your_time,), events=EventLog())
    with running_server(mcp=mcp, receive_timeout=DEADLINE, keep_alive_timeout=1) as running:
        yield running


def half_body(server: RunningServer) -> bytes:
    """Return a request with the key that promises more than it sends."""
    return request_text(server, "POST /mcp HTTP/1.1", with_key(server, "Content-Length: 100")) + b'{"jsonrpc"'


def attacks(server: RunningServer) -> dict[str, bytes]:
    """Return beginnings after which a client falls silent."""
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    return {
        "silence": b"",
        "half a line": b"GET /li",
        "half a head": b"GET /livez HTTP/1.1\r\n" + host,
        "half a body": half_body(server),
        "half a chunk": request_text(server, "POST /mcp HTTP/1.1", with_key(server, "Transfer-Encoding: chunked"))
        + b"64\r\nabc",
        "half a body without the key": request_text(server, "POST /mcp HTTP/1.1", ["Content-Length: 100"]) + b"a",
    }


@pytest.mark.parametrize(
    "attack",
    ["silence", "half a line", "half a head", "half a body", "half a chunk", "half a body without the key"],
)
def test_a_client_that_stops_sending_is_disconnected(server: RunningServer, attack: str) -> None:
    seconds = seconds_until_closed(server, attacks(server)[attack])
    assert DEADLINE * 0.9 < seconds < DEADLINE + 1.5


def test_half_a_body_behind_a_whole_request_is_disconnected(server: RunningServer) -> None:
    """The second request arrives while the first is served, so no new bytes start its clock."""
    whole = request_text(server, "POST /mcp HTTP/1.1", with_key(server), PING)
    assert seconds_until_closed(server, whole + half_body(server)) < DEADLINE + 2


def test_an_idle_connection_is_closed(server: RunningServer) -> None:
    assert seconds_until_closed(server, request_text(server, "GET /livez HTTP/1.1")) < 3


def test_a_client_that_sends_a_byte_at_a_time_is_disconnected(server: RunningServer) -> None:
    """Each byte would restart a naive time-out: the deadline is for the whole request."""
    head = request_text(server, "POST /mcp HTTP/1.1", with_key(server, "Content-Length: 100"))
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.05) as connection:
        connection.sendall(head)
        while time.monotonic() - started < 5:
            try:
                connection.sendall(b" ")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() - started < DEADLINE + 2


def test_a_long_tool_call_is_not_mistaken_for_a_slow_client(server: RunningServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call, server, "take_your_time", {"seconds": DEADLINE * 3})
        seconds_until_closed(server, half_body(server))
        assert answer.result(10) == (False, "finished")


def test_others_are_served_while_many_are_silent(server: RunningServer) -> None:
    with ExitStack() as held:
        for _ in range(100):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert send(server, "GET", "/livez").status == 200
        wait_until(lambda: open_connections(server) <= 2, seconds=5)


def test_connections_beyond_the_limit_are_refused_and_room_returns() -> None:
    with running_server(max_connections=10, receive_timeout=DEADLINE) as small, ExitStack() as held:
        for _ in range(20):
            held.enter_context(socket.create_connection(("127.0.0.1", small.port)))
        assert send(small, "GET", "/health").status == 503
        wait_until(lambda: send(small, "GET", "/health").status == 200, seconds=5)
