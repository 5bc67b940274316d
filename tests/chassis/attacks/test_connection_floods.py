"""Holding more connections than one client needs, or holding them by not reading what one has asked for."""

import json
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from mcp_chassis import tool
from mcp_chassis.calls.output import Output
from mcp_chassis.events.log import EventLog
from mcp_chassis.http import protocol as http_protocol
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.running import RunningServer, running_server, wait_until
from .wire import RESET, forwarded_for, open_connections, request_text, send

DEADLINE = 1.0
LARGE = 7_000_000  # more than sockets take between two programs that do not read


@tool(read_only=True, max_concurrency=50)
async def large() -> str:
    """Answer at length."""
    return "a" * LARGE


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server with short deadlines and a tool with a long answer."""
    mcp = GuardedServer(
        "flooded",
        tools=(large,),
        events=EventLog(),
        output=Output(events=EventLog(), max_bytes=5 * LARGE, max_tokens=5 * LARGE),
    )
    with running_server(mcp=mcp, receive_timeout=DEADLINE, send_timeout=DEADLINE, keep_alive_timeout=1) as running:
        yield running


def connect(server: RunningServer, source: str = "127.0.0.1") -> socket.socket:
    """Open a connection from an address of this machine."""
    connection = socket.socket()
    connection.settimeout(10)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", server.port))
    return connection


def call_of_large(server: RunningServer) -> bytes:
    """Return a request for the long answer."""
    headers = [f"Authorization: Bearer {server.key}", "Content-Type: application/json", "Accept: application/json"]
    accept = headers.pop() + ", text/event-stream"
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "large", "arguments": {}}}
    return request_text(server, "POST /mcp HTTP/1.1", [*headers, accept], json.dumps(message))


def test_two_hundred_silent_and_slow_clients_do_not_slow_down_others_and_are_disconnected(
    server: RunningServer,
) -> None:
    """Silent ones, half heads, half bodies, and ones that send a byte now and then, while probes go on."""
    whole = call_of_large(server)
    beginnings = [b"", b"GET /li", whole[:80], whole[:-10]]
    with ExitStack() as held:
        slow = [held.enter_context(connect(server)) for _ in range(200)]
        for number, connection in enumerate(slow):
            connection.sendall(beginnings[number % 4])
        started, seconds = time.monotonic(), []
        while time.monotonic() - started < DEADLINE * 0.8:
            for connection in slow[1::4]:
                connection.sendall(b"a")
            asked = time.monotonic()
            assert send(server, "GET", "/livez").status == 200
            seconds.append(time.monotonic() - asked)
        wait_until(lambda: open_connections(server) == 1, seconds=DEADLINE + 10)
    assert max(seconds) < 1 or statistics.quantiles(seconds, n=100)[98] < 1


def test_one_address_cannot_take_all_connections() -> None:
    with running_server(max_connections_per_address=5, receive_timeout=DEADLINE) as small, ExitStack() as held:
        for _ in range(5):
            held.enter_context(connect(small))
        wait_until(lambda: send(small, "GET", "/livez").status == 429)
        answer = send(small, "GET", "/livez")
        assert answer.json()["detail"] == "Your address has too many open connections. Close some."
        if sys.platform == "linux":  # where all of 127.0.0.0/8 is this machine
            with connect(small, "127.0.0.2") as other:
                other.sendall(request_text(small, "GET /livez HTTP/1.1"))
                assert other.recv(100).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: send(small, "GET", "/livez").status == 200)  # room returns
        events = small.events("rate_limit_exceeded")
        assert {event["details"]["reason"] for event in events} == {"too many connections"}
        assert {event["identifier"] for event in events} == {"127.0.0.1"}


def test_a_trusted_proxy_may_hold_the_connections_of_many_clients() -> None:
    each, proxies = 5, "127.0.0.1"
    with (
        running_server(max_connections_per_address=each, trusted_proxies=proxies, receive_timeout=DEADLINE) as small,
        ExitStack() as held,
    ):
        for _ in range(30):
            held.enter_context(connect(small))
        assert send(small, "GET", "/livez", [forwarded_for("192.0.2.1")]).status == 200


def test_those_who_are_one_too_many_cannot_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 503 for a full server needs a socket, too: beyond some of those, connections are closed at once."""
    monkeypatch.setattr(http_protocol, "_REFUSED_TIMEOUT_SECONDS", 60)
    with running_server(max_connections=10, receive_timeout=60) as small, ExitStack() as held:
        flood = [held.enter_context(connect(small)) for _ in range(100)]

        def is_cut(connection: socket.socket) -> bool:
            connection.settimeout(0.01)
            try:
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        # Ten were admitted, and sixteen may ask, to be told why not.
        wait_until(lambda: sum(map(is_cut, flood)) >= 74, seconds=20)
        assert sum(map(is_cut, flood)) == 74


def test_a_refused_connection_that_sends_nothing_is_closed_before_the_receive_timeout() -> None:
    with (
        running_server(max_connections=1, receive_timeout=60) as small,
        connect(small) as held,
        connect(small) as refused,
    ):
        refused.settimeout(30)
        assert refused.recv(1) == b""
        held.settimeout(0.01)
        with pytest.raises(TimeoutError):
            held.recv(1)


@pytest.mark.parametrize("times", [1, 5], ids=["once", "pipelined"])
def test_a_client_that_does_not_read_its_answer_is_disconnected(server: RunningServer, times: int) -> None:
    """The answer is made, the connection idle or closing: uvicorn would wait without limit for it to be read."""

    def disconnected_clients() -> int:
        reasons = [event["details"].get("reason") for event in server.events("http_error")]
        return reasons.count("does not take its answer")

    before = disconnected_clients()
    with ExitStack() as held:
        for _ in range(5):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(call_of_large(server) * times)
        wait_until(lambda: disconnected_clients() == before + 5, seconds=20)
        wait_until(lambda: open_connections(server) == 1, seconds=20)


def test_a_client_that_reads_slowly_but_steadily_gets_its_answer(server: RunningServer) -> None:
    received = 0
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)  # so that the answer waits at the server
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(call_of_large(server).replace(b"\r\nHost", b"\r\nConnection: close\r\nHost"))
        while chunk := connection.recv(400_000):
            received += len(chunk)
            time.sleep(0.06)
    assert received > LARGE


def test_closing_rudely_gives_every_place_back() -> None:
    with running_server(max_connections_per_address=20, receive_timeout=60) as small:

        def hit_and_run(_: int) -> None:
            connection = connect(small)
            connection.sendall(b"GET /livez HTTP/1.1\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(hit_and_run, range(200)))
        wait_until(lambda: send(small, "GET", "/livez").status == 200)
        with ExitStack() as held:
            for _ in range(19):
                held.enter_context(connect(small))
            assert send(small, "GET", "/livez").status == 200
