"""Holding streams open: more than one caller needs, for longer than needed, or so that no place is free again."""

import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver import Context

from mcp_chassis import tool
from mcp_chassis.auth.keys.format import digest, id_of
from mcp_chassis.auth.keys.store import changing_keys
from mcp_chassis.auth.keys.verifier import KeyVerifier
from mcp_chassis.auth.oauth import introspection as introspecting
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.callers import headers, message
from ..support.issuer import introspection, oauth, running_issuer
from ..support.keys import add_key, put, record_of
from ..support.running import RunningServer, running_server, server_process, wait_until
from .streams import LISTEN, PROMISED, is_stream, listen, seconds_until_the_end
from .wire import RESET, key_of, request_text, send

MOST_EACH, MOST = 3, 5


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
                seconds_until_the_end(connection)
            assert time.monotonic() - started < 5


# --- a stream and its credential ---


@pytest.mark.parametrize(
    "change",
    [
        {"revoked": datetime.now(UTC)},
        {"expires": datetime.now(UTC)},
        {"sha256": digest("a new secret")},
        {"scopes": ("notes:write",)},
        None,
    ],
    ids=["revoked", "expired", "rotated without an overlap", "other scopes", "removed"],
)
def test_a_stream_ends_with_its_key_and_no_other_stream(tmp_path: Path, change: dict[str, Any] | None) -> None:
    path = tmp_path / "keys.json"
    key, other = add_key(path), add_key(path)
    with running_server(keys_file=path) as server, listen(server, key)[0] as stream, listen(server, other)[0] as kept:
        with changing_keys(path) as keys:
            if change is None:
                del keys[id_of(key)]
            else:
                keys[id_of(key)] = keys[id_of(key)].model_copy(update=change)
        assert seconds_until_the_end(stream) < PROMISED
        again, received = listen(server, key)
        again.close()
        assert is_stream(received) == (change is not None and "scopes" in change)
        kept.settimeout(0.3)
        with pytest.raises(TimeoutError):
            kept.recv(1)


def test_a_stream_ends_when_its_key_expires(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path, expires=datetime.now(UTC) + timedelta(seconds=4))  # a busy machine starts slowly
    with running_server(keys_file=path) as server, listen(server, key)[0] as stream:
        assert seconds_until_the_end(stream) < 4 + PROMISED


def test_a_stream_ends_with_its_access_token() -> None:
    with running_issuer() as issuer, running_server(**oauth(issuer.url)) as server:
        # Half a minute is granted to clocks that differ.
        token = issuer.token(f"{server.url}/mcp", exp=int(time.time()) - 27)
        with listen(server, token)[0] as stream:
            assert seconds_until_the_end(stream) < 3 + PROMISED


def test_a_stream_ends_when_its_opaque_token_is_revoked() -> None:
    """The issuer is asked every half a minute, but every second about a token whose stream is open."""
    with running_issuer() as issuer, running_server(**introspection(issuer)) as server:
        issuer.opaque["opaque"] = {"sub": "alice", "aud": f"{server.url}/mcp"}
        with listen(server, "opaque")[0] as stream:
            wait_until(lambda: issuer.shown.count("opaque") >= 3)
            issuer.opaque.clear()
            assert seconds_until_the_end(stream) < PROMISED
        assert server.post(message("tools/list", {}), headers={"Authorization": "Bearer opaque"}).status_code == 401


def test_a_stream_outlives_a_short_outage_of_the_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspecting, "_COOL_DOWN", 0.1)
    with running_issuer() as issuer, running_server(**introspection(issuer)) as server:
        issuer.opaque["opaque"] = {"sub": "alice", "aud": f"{server.url}/mcp"}
        with listen(server, "opaque")[0] as stream:
            issuer.status = 500
            before = len(issuer.shown)
            wait_until(lambda: len(issuer.shown) >= before + 2)
            stream.settimeout(0.1)
            with pytest.raises(TimeoutError):
                stream.recv(1)
            issuer.status = 200
            issuer.opaque.clear()
            assert seconds_until_the_end(stream) < PROMISED


def test_a_stream_ends_where_its_credential_cannot_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise OSError

    with running_server() as server, listen(server)[0] as stream:
        monkeypatch.setattr(KeyVerifier, "verify", broken)
        assert seconds_until_the_end(stream) < PROMISED


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_stream_of_a_running_call_ends_with_its_key(tmp_path: Path, mode: str) -> None:
    """It would go on to say what the tool does, until the deadline of the call. The tool is stopped as well."""
    path, stopped = tmp_path / "keys.json", threading.Event()

    @tool(read_only=True)
    async def watch(ctx: Context[Any, Any]) -> str:
        """Say what happens."""
        try:
            for step in range(1000):
                await ctx.report_progress(step)
                await anyio.sleep(0.1)
        finally:
            stopped.set()
        return "finished"

    key, other = add_key(path), add_key(path)
    mcp = GuardedServer("a-server", tools=[watch], events=EventLog())
    asked = message("tools/call", {"name": "watch", "arguments": {}, "_meta": {"progressToken": 1}}, mode=mode)

    def stream(server: RunningServer, secret: str) -> socket.socket:
        names = headers(server, "tools/call", "watch", mode=mode) | {"Content-Type": "application/json"}
        lines = [f"{name}: {value}" for name, value in (names | {"Authorization": f"Bearer {secret}"}).items()]
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=PROMISED)
        connection.sendall(request_text(server, "POST /mcp HTTP/1.1", lines, json.dumps(asked)))
        assert b"notifications/progress" in connection.recv(65536) + connection.recv(65536)
        return connection

    with running_server(mcp, keys_file=path) as server, stream(server, key) as ended, stream(server, other) as kept:
        put(path, record_of(key, revoked=datetime.now(UTC)))
        started, received = time.monotonic(), b""
        while not received.endswith(b"0\r\n\r\n"):
            received += (chunk := ended.recv(65536))
            assert chunk, "the stream broke off instead of ending"
            assert time.monotonic() - started < PROMISED
        assert b'"error": {"code": -32603, "message": "The credential is not valid any more.' in received
        assert stopped.wait(1)
        assert kept.recv(65536)


def test_a_call_under_way_ends_by_itself_although_its_key_was_revoked(tmp_path: Path) -> None:
    """It was allowed when it began, its deadline bounds it, and half of it may be worse than all of it."""
    path, released = tmp_path / "keys.json", threading.Event()

    @tool(read_only=True)
    async def slow() -> str:
        """Take its time."""
        while not released.is_set():  # noqa: ASYNC110
            await anyio.sleep(0.05)
        return "finished"

    key = add_key(path)
    mcp = GuardedServer("a-server", tools=[slow], events=EventLog())
    credentials = {"Authorization": f"Bearer {key}"}
    with running_server(mcp, keys_file=path) as server, ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.call, "slow", {}, headers=credentials)
        time.sleep(0.5)
        put(path, record_of(key, revoked=datetime.now(UTC)))
        wait_until(lambda: server.get("/mcp", headers=credentials).status_code == 401)
        released.set()
        assert "finished" in call.result(10).text


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
