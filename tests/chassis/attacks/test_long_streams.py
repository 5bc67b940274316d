"""Holding streams open: more than one caller needs, for longer than anybody needs, or so that nobody gets one back."""

import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support.callers import headers, message
from ..support.running import RunningServer, running_server, server_process, wait_until
from .wire import RESET, key_of, request_text, send

LISTEN = {"notifications": {"toolsListChanged": True}}
MOST_EACH, MOST = 3, 5


def listen(server: RunningServer, key: str | None = None) -> tuple[socket.socket, bytes]:
    """Ask for a stream. Return the connection and the beginning of the answer, its first event if it is a stream."""
    names = headers(server, "subscriptions/listen", "", mode="auto") | {"Content-Type": "application/json"}
    names["Authorization"] = f"Bearer {key or server.key}"
    del names["Mcp-Name"]
    body = json.dumps(message("subscriptions/listen", LISTEN, mode="auto"))
    lines = [f"{name}: {value}" for name, value in names.items()]
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(request_text(server, "POST /mcp HTTP/1.1", lines, body))
    received = b""
    while b"acknowledged" not in received and b'"error"' not in received and b"detail" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    return connection, received


def is_stream(received: bytes) -> bool:
    """Whether the answer was a stream."""
    return b"text/event-stream" in received


def has_room(server: RunningServer) -> bool:
    """Whether one more stream is served. It is closed again."""
    connection, received = listen(server)
    connection.close()
    return is_stream(received)


def rest(connection: socket.socket) -> bytes:
    """Read to the end."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server with few places for streams."""
    with running_server(max_streams_per_caller=MOST_EACH, max_streams=MOST) as running:
        yield running


def test_one_caller_has_so_many_streams_and_no_more(server: RunningServer) -> None:
    with ExitStack() as held:
        for _ in range(MOST_EACH):
            connection, received = listen(server)
            held.enter_context(connection)
            assert is_stream(received)
        connection, received = listen(server)
        held.enter_context(connection)
        assert not is_stream(received)
        assert b"Too many open streams. Close one, or try again later." in received
        event = server.events("rate_limit_exceeded")[0]
        assert (event["identifier"], event["details"]["reason"]) == ("key:default", "streams")
        assert send(server, "GET", "/livez").status == 200


def leave(connection: socket.socket) -> None:
    """Close a connection as one should."""
    connection.close()


def leave_rudely(connection: socket.socket) -> None:
    """Close it by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def leave_by_half(connection: socket.socket) -> None:
    """Close it in one direction."""
    connection.shutdown(socket.SHUT_WR)


def talk_nonsense(connection: socket.socket) -> None:
    """Send what is not HTTP while the stream runs, and go."""
    connection.sendall(b"\x00\r\n\r\n" * 10)
    time.sleep(0.2)  # so that the end comes later than this
    connection.close()


@pytest.mark.parametrize("close", [leave, leave_rudely, leave_by_half, talk_nonsense])
def test_a_place_comes_back_whichever_way_a_stream_is_closed(
    server: RunningServer, close: Callable[[socket.socket], None]
) -> None:
    for _ in range(2):
        connections = [listen(server)[0] for _ in range(MOST_EACH)]
        assert not has_room(server)
        for connection in connections:
            close(connection)
        wait_until(lambda: has_room(server), seconds=5)
        for connection in connections:
            connection.close()


def test_all_callers_together_have_so_many_streams() -> None:
    with running_server(max_streams_per_caller=100, max_streams=MOST) as small, ExitStack() as held:
        answers = []
        for _ in range(MOST + 1):
            connection, received = listen(small)
            held.enter_context(connection)
            answers.append(is_stream(received))
        assert answers == [True] * MOST + [False]


def test_a_stream_ends_with_a_result_when_it_is_too_old() -> None:
    with running_server(max_stream_age=0.5, max_streams=1) as small:
        for _ in range(2):  # the place comes back, too
            started = time.monotonic()
            connection, received = listen(small)
            assert is_stream(received)
            with connection:
                end = b""
                while b'"result"' not in end:
                    chunk = connection.recv(65536)
                    assert chunk, "the stream broke off instead of ending"
                    end += chunk
            assert time.monotonic() - started < 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to be polite with")
def test_sigterm_ends_every_stream_with_a_result_and_the_server_in_time(tmp_path: Path) -> None:
    with server_process(tmp_path, shutdown_timeout="8") as process, ExitStack() as held:
        streams = [held.enter_context(listen(process.running)[0]) for _ in range(20)]
        started = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        assert all(b'"result"' in rest(stream) for stream in streams), "a stream broke off instead of ending"
        assert process.process.wait(15) == 0
        assert time.monotonic() - started < 8
        assert "Traceback" not in process.written()


def test_older_clients_have_no_streams_to_hold(server: RunningServer) -> None:
    """GET would open one that nothing ever arrives on; the new request does not exist in the old revisions."""
    accept = ("Accept", "text/event-stream")
    assert send(server, "GET", "/mcp", [key_of(server), accept]).status == 405
    answer = server.post(message("subscriptions/listen", LISTEN), headers=headers(server, "", ""))
    assert answer.json()["error"]["code"] == -32601
