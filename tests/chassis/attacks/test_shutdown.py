"""Keeping a server from stopping, and losing what others had asked for."""

import json
import re
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from ..support.running import RunningServer, ServerProcess, running_server, server_process, wait_until
from .wire import open_connections, request_text

BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})


def connect(server: RunningServer) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def half_request(server: RunningServer) -> bytes:
    """Return a request with the key, up to the middle of its body."""
    headers = [f"Authorization: Bearer {server.key}", "Content-Type: application/json", "Accept: application/json"]
    return request_text(server, "POST /mcp HTTP/1.1", headers, BODY)[: -len(BODY) // 2]


def stop_with_a_request_under_way(server: ServerProcess) -> tuple[int, bytes]:
    """Send SIGTERM in the middle of a request, then the rest of it. Return the exit code and the answer."""
    with connect(server.running) as connection:
        connection.sendall(half_request(server.running))
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        assert server.process.poll() is None, "the server did not wait"
        connection.sendall(BODY[len(BODY) // 2 :].encode())
        answer = connection.recv(65536)
    return server.process.wait(15), answer


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to be polite with")
def test_sigterm_lets_a_running_request_finish_and_exits_with_0(tmp_path: Path) -> None:
    with server_process(tmp_path) as server, connect(server.running):  # and a silent one, which is not waited for
        code, answer = stop_with_a_request_under_way(server)
    assert re.match(rb"HTTP/1\.1 (200|400) ", answer), answer
    assert code == 0
    assert "Traceback" not in server.written()


def test_a_client_that_never_finishes_does_not_hold_the_shutdown() -> None:
    with ExitStack() as held:
        with running_server(shutdown_timeout=1, receive_timeout=60) as server:
            connection = held.enter_context(connect(server))
            connection.sendall(half_request(server))
            wait_until(lambda: open_connections(server) == 2)
            started = time.monotonic()
        assert time.monotonic() - started < 5


def test_a_client_that_was_refused_and_stays_does_not_hold_the_shutdown() -> None:
    with ExitStack() as held:
        with running_server(shutdown_timeout=60, receive_timeout=60) as server:
            connection = held.enter_context(connect(server))
            headers = [f"Authorization: Bearer {server.key}", "Transfer-Encoding: chunked"]
            connection.sendall(request_text(server, "POST /mcp HTTP/1.1", headers) + b"1\r\n{\r\nzz\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 4")
            started = time.monotonic()
        assert time.monotonic() - started < 5


@pytest.mark.anyio
async def test_an_open_stream_does_not_hold_the_shutdown_and_ends_properly() -> None:
    """One `subscriptions/listen` stream keeps uvicorn waiting for as long as the client likes."""
    opened, leave = anyio.Event(), anyio.Event()
    ended = False

    async def listen(server: RunningServer) -> None:
        nonlocal ended
        async with server.client() as client, client.listen(tools_list_changed=True) as subscription:
            opened.set()
            async for _ in subscription:
                pass
            ended = True
            leave.set()

    running = running_server(shutdown_timeout=60)
    server = running.__enter__()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen, server)
        with anyio.fail_after(10):
            await opened.wait()
        started = time.monotonic()
        await anyio.to_thread.run_sync(running.__exit__, None, None, None)
        assert time.monotonic() - started < 5
        with anyio.move_on_after(5):
            await leave.wait()
        tasks.cancel_scope.cancel()
    assert ended, "the stream broke off instead of ending"
