"""The deadline for receiving: it closes connections of clients that send nothing, and no others."""

import asyncio
import gc
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import anyio
import pytest

from mcp_chassis import tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.http.protocol import DeadlineProtocol, deadline_protocol
from mcp_chassis.mcp.guarded_server import GuardedServer

from .support.running import RunningServer, running_server, wait_until

DEADLINE = 0.4


@contextmanager
def no_collection() -> Iterator[None]:
    """Leave to the count of references what it can do."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@tool(read_only=True)
async def slow() -> str:
    """Take longer than the deadline."""
    await anyio.sleep(2 * DEADLINE)
    return "done"


@tool(read_only=True)
async def slower() -> str:
    """Take as long as it takes to send forty megabytes."""
    await anyio.sleep(20)
    return "done"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    mcp = GuardedServer("test", tools=(slow,), events=EventLog())
    with running_server(mcp, receive_timeout=DEADLINE, keep_alive_timeout=30) as running:
        yield running


def head(server: RunningServer, line: str = "POST /mcp", length: int = 10) -> bytes:
    headers = [
        f"{line} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"Authorization: Bearer {server.key}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return ("\r\n".join(headers) + "\r\n\r\n").encode()


def seconds_until_closed(server: RunningServer, data: bytes, *, drip: bool = False) -> float:
    """Send `data`, then nothing or a byte now and then, until the server has closed the connection."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(data)
        connection.settimeout(0.1 if drip else 5)
        while True:
            try:
                if not connection.recv(65536):
                    break
            except TimeoutError:
                assert drip, "the server has not closed the connection"
                connection.sendall(b"a")
            except ConnectionError:
                break
            assert time.monotonic() - started < 5, "the server has not closed the connection"
    return time.monotonic() - started


@pytest.mark.parametrize("data", [b"", b"GET /livez HT"], ids=["silence", "half a header"])
def test_who_does_not_send_a_request_is_closed(server: RunningServer, data: bytes) -> None:
    assert DEADLINE * 0.8 < seconds_until_closed(server, data) < 3


def test_who_sends_half_a_body_is_closed(server: RunningServer) -> None:
    assert DEADLINE * 0.8 < seconds_until_closed(server, head(server) + b"12345") < 3


def test_a_byte_now_and_then_does_not_help(server: RunningServer) -> None:
    assert seconds_until_closed(server, head(server, length=1000), drip=True) < 3


def test_a_pipelined_request_has_the_same_deadline(server: RunningServer) -> None:
    """The first request is whole and answered; the second began before that and never ends."""
    first = head(server, "GET /livez", length=0)
    assert seconds_until_closed(server, first + head(server) + b"12345") < 3


def test_a_long_call_is_not_cut(server: RunningServer) -> None:
    assert server.call("slow", {}).json()["result"]["content"][0]["text"] == "done"


def test_the_clock_starts_anew_for_every_request(server: RunningServer) -> None:
    request = head(server, "GET /livez", length=0)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"ok\n"):
                received = connection.recv(65536)
                assert received, "the server has closed the connection"
                answer += received
            time.sleep(DEADLINE / 2)


def test_a_head_that_arrives_in_pieces_is_not_taken_for_an_idle_connection() -> None:
    with running_server(keep_alive_timeout=1) as patient, socket.create_connection(("127.0.0.1", patient.port)) as sock:
        request = head(patient, "GET /livez", length=0)
        sock.sendall(request)
        assert sock.recv(65536)
        for piece in (request[:20], request[20:40], request[40:]):
            time.sleep(0.6)
            sock.sendall(piece)
        assert b"HTTP/1.1 200 OK" in b"".join(iter(lambda: sock.recv(65536), b""))


def send_megabytes(connection: socket.socket, number: int) -> None:
    for _ in range(number):
        connection.sendall(b"a" * 1_000_000)


def test_pipelined_requests_wait_at_the_client_not_in_memory() -> None:
    call = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slower", "arguments": {}}}'
    accept = b"\r\nAccept: application/json, text/event-stream\r\n\r\n"
    mcp = GuardedServer("test", tools=(slower,), events=EventLog())
    with (
        running_server(mcp, shutdown_timeout=1) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=1) as connection,
    ):
        connection.sendall(head(server, length=len(call)).replace(b"\r\n\r\n", accept) + call)
        with pytest.raises(TimeoutError):
            send_megabytes(connection, 40)


def test_each_server_has_its_own_deadline() -> None:
    assert deadline_protocol(3).receive_timeout == 3
    assert deadline_protocol(4).receive_timeout == 4
    assert DeadlineProtocol.receive_timeout == 10


def test_a_connection_that_has_ended_leaves_nothing_to_the_garbage_collector(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last message would stay with it: with a megabyte each, that is gone too late."""
    seen: list[weakref.ref[DeadlineProtocol]] = []
    made = DeadlineProtocol.connection_made

    def remember(self: DeadlineProtocol, transport: asyncio.Transport) -> None:
        seen.append(weakref.ref(self))
        made(self, transport)

    monkeypatch.setattr(DeadlineProtocol, "connection_made", remember)
    with no_collection():
        for length in (10, 1000):  # of which one is never sent to its end
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
                connection.sendall(head(server, length=length) + b"0123456789")
                assert connection.recv(65536).startswith(b"HTTP/1.1 400 ") or length == 1000
        wait_until(lambda: len(seen) == 2 and not any(protocol() for protocol in seen))


CALL = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "quick", "arguments": {}}}'
ACCEPT = b"\r\nAccept: application/json, text/event-stream\r\n\r\n"


@tool(read_only=True)
async def quick() -> str:
    """Return at once."""
    return "done"


def ask(connection: socket.socket, request: bytes) -> bytes:
    """Send a request on a connection that is kept, and return the response."""
    connection.sendall(request)
    received = connection.recv(65536)
    start, _, body = received.partition(b"\r\n\r\n")
    length = next(line for line in start.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < int(length.split(b":")[1]):
        body += connection.recv(65536)
    return body


@pytest.fixture(scope="module")
def quick_server() -> Iterator[RunningServer]:
    with running_server(GuardedServer("test", tools=(quick,), events=EventLog())) as running:
        yield running


def test_the_head_and_the_body_of_a_response_are_sent_together(
    quick_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system call wakes the client up: the second one costs as much as the first."""
    written: list[bytes] = []
    made = DeadlineProtocol.connection_made

    class Watched:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def write(self, data: bytes) -> None:
            written.append(data)
            self._transport.write(data)

        def __getattr__(self, name: str) -> object:
            return getattr(self._transport, name)

    def watch(self: DeadlineProtocol, transport: asyncio.Transport) -> None:
        made(self, cast(asyncio.Transport, Watched(transport)))

    monkeypatch.setattr(DeadlineProtocol, "connection_made", watch)
    request = head(quick_server, length=len(CALL)).replace(b"\r\n\r\n", ACCEPT) + CALL
    with socket.create_connection(("127.0.0.1", quick_server.port), timeout=5) as connection:
        for _ in range(3):
            assert b'"done"' in ask(connection, request)
        ask(connection, head(quick_server, "GET /livez", length=0))
    assert len(written) == 4


def test_served_calls_leave_nothing_to_the_garbage_collector(quick_server: RunningServer) -> None:
    """Each collection stops all calls, and until then what a call has used stays."""
    request = head(quick_server, length=len(CALL)).replace(b"\r\n\r\n", ACCEPT) + CALL
    with socket.create_connection(("127.0.0.1", quick_server.port), timeout=5) as connection:
        for _ in range(5):
            ask(connection, request)
        with no_collection():
            gc.collect()
            for _ in range(50):
                ask(connection, request)
            left = gc.collect()
    assert left < 50, f"{left / 50} objects for each call"
