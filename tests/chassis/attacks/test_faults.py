"""What breaks around the server: tools that hang, crash, flood or fork, full disks, closed streams, jumping clocks."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_chassis import prompt, resource, tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.settings import Settings, load_settings

from ..support.callers import headers, message
from ..support.running import (
    PACKAGE,
    RunningServer,
    environment,
    free_port,
    running_server,
    server_process,
    serves,
    wait_until,
)
from .wire import Answer, call, key_of, post, send


class NobodyCatchesThis(BaseException):
    """Not an `Exception`."""


def exhaust() -> None:
    """Call itself until the stack is used up."""
    exhaust()


def crash(kind: str) -> None:
    """End in one way of many."""
    if kind == "RecursionError":
        exhaust()
    raise CRASHES[kind]


CRASHES: dict[str, BaseException | type[BaseException]] = {
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": StopIteration("do-not-echo"),
    "NobodyCatchesThis": NobodyCatchesThis("do-not-echo"),
    "group": BaseExceptionGroup("do-not-echo", [NobodyCatchesThis("do-not-echo")]),
}


@tool(read_only=True)
async def crash_in_the_loop(kind: str) -> str:
    """Crash."""
    crash(kind)
    return "unreachable"


@tool(read_only=True)
def crash_in_a_thread(kind: str) -> str:
    """Crash."""
    crash(kind)
    return "unreachable"


@tool(read_only=True)
async def fifty_megabytes() -> str:
    """Say too much."""
    return "a" * 50_000_000


@tool(read_only=True)
async def fork(seconds: float) -> int:
    """Leave a child behind, which does something else for a while. Return its process id."""
    child = os.fork()
    if child == 0:
        time.sleep(seconds)  # noqa: ASYNC251  (what is attacked)
        os._exit(0)
    return child


@tool(read_only=True)
async def quick() -> str:
    """Answer."""
    return "done"


@resource("crash://{kind}")
async def crash_of_a_resource(kind: str) -> str:
    """Crash."""
    crash(kind)
    return "unreachable"


@prompt()
async def crash_of_a_prompt(kind: str) -> str:
    """Crash."""
    crash(kind)
    return "unreachable"


def make_server() -> GuardedServer:
    """Return a server whose tools break."""
    return GuardedServer(
        "broken",
        tools=(crash_in_the_loop, crash_in_a_thread, fifty_megabytes, fork, quick),
        resources=(crash_of_a_resource,),
        prompts=(crash_of_a_prompt,),
        events=EventLog(),
    )


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """That server, running."""
    with running_server(make_server()) as running:
        yield running


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("kind", CRASHES)
def test_a_crash_of_any_kind_is_a_result_and_the_server_goes_on(server: RunningServer, kind: str, mode: str) -> None:
    """By itself the SDK loses its task group to some of these, and from then on answers everything with a 500."""
    for name in ("crash_in_the_loop", "crash_in_a_thread"):
        for meta in ({}, {"_meta": {"progressToken": 1}}):
            params: dict[str, Any] = {"name": name, "arguments": {"kind": kind}} | meta
            body = message("tools/call", params, mode=mode)
            answer = server.post(body, headers=headers(server, "tools/call", name, mode=mode))
            assert answer.status_code == 200
            assert f"The tool {name} failed." in answer.text
            assert "do-not-echo" not in answer.text
    uri = f"crash://{kind}"
    body = message("resources/read", {"uri": uri}, mode=mode)
    answer = server.post(body, headers=headers(server, "resources/read", uri, mode=mode))
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, -32603)
    body = message("prompts/get", {"name": "crash_of_a_prompt", "arguments": {"kind": kind}}, mode=mode)
    answer = server.post(body, headers=headers(server, "prompts/get", "crash_of_a_prompt", mode=mode))
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, -32603)
    assert call(server, "quick", {}) == (False, "done")


def test_a_result_of_fifty_megabytes_is_a_clear_error(server: RunningServer) -> None:
    is_error, text = call(server, "fifty_megabytes", {})
    assert is_error
    assert len(text) < 1000
    assert call(server, "quick", {}) == (False, "done")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of what is attacked here
def test_a_child_that_a_tool_forks_keeps_neither_the_port_nor_the_connections() -> None:
    with running_server(make_server()) as broken:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        body["params"] = {"name": "fork", "arguments": {"seconds": 60}}
        # `Connection: close` is answered by an end, which comes only when nothing holds the socket any more.
        answer = post(
            broken, json.dumps(body).encode(), [("Content-Type", "application/json"), ("Connection", "close")]
        )
        child = int(answer.json()["result"]["content"][0]["text"])
        assert send(broken, "GET", "/livez").status == 200
    try:
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", broken.port))  # the server has stopped, the child lives
            again.listen()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


HANGING = """
import sys, time
from mcp_chassis import Service, cli, tool
@tool(read_only=True, timeout=600)
def hang_in_a_thread() -> str:
    "Hang."
    time.sleep(600)
    return ""
@tool(read_only=True, timeout=600)
async def hang_the_loop() -> str:
    "Hang."
    time.sleep(600)
    return ""
cli.run(Service(module="hanging", tools=(hang_in_a_thread, hang_the_loop)), ["serve"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to be polite with")
@pytest.mark.parametrize("name", ["hang_in_a_thread", "hang_the_loop"])
def test_a_tool_that_nothing_can_stop_does_not_outlive_the_server(tmp_path: Path, name: str) -> None:
    program = ("-c", HANGING)
    with server_process(tmp_path, program=program, shutdown_timeout="1") as process:
        body = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}}
        )
        with socket.create_connection(("127.0.0.1", process.running.port)) as connection:
            head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{process.running.port}\r\n"
            head += f"Authorization: Bearer {process.running.key}\r\nContent-Type: application/json\r\n"
            head += "Accept: application/json, text/event-stream\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            time.sleep(1)  # it hangs, and cannot say so
            started = time.monotonic()
            process.process.send_signal(signal.SIGTERM)
            assert process.process.wait(20) == 1
        assert time.monotonic() - started < 10
        assert name in process.written(), "the log does not say what hung"


def refusals(server: RunningServer) -> list[int]:
    """Return the statuses of requests that each leave lines in the log."""
    answers: list[Answer] = [send(server, "GET", "/nothing"), send(server, "GET", "/nothing", [key_of(server)])]
    answers += [post(server, b"{"), send(server, "GET", "/livez", [("Origin", "https://evil.example")])]
    answers += [post(server, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode())]
    return [answer.status for answer in answers]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux and NetBSD")
def test_a_full_disk_under_the_log_changes_no_answer(tmp_path: Path) -> None:
    port, key = free_port(), "a-key-of-32-characters-0123456789"
    variables = environment(port=str(port), api_key=key, log_format="json")
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", PACKAGE, "serve"], cwd=tmp_path, env=variables, stdout=full, stderr=full
        )
    try:
        server = RunningServer(_settings(port, key), key)
        wait_until(lambda: serves(server), seconds=30)
        assert refusals(server) == [401, 404, 400, 403, 200]
    finally:
        process.terminate()
        process.wait(15)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows gives a process its streams in another way")
@pytest.mark.parametrize("number", ["1", "2"], ids=["stdout", "stderr"])
def test_a_closed_stream_changes_no_answer(number: str, tmp_path: Path) -> None:
    port, key = free_port(), "a-key-of-32-characters-0123456789"
    variables = environment(port=str(port), api_key=key, log_format="json")
    shell = f'exec "$0" -m {PACKAGE} serve {number}>&-'
    process = subprocess.Popen(
        ["/bin/sh", "-c", shell, sys.executable], cwd=tmp_path, env=variables, stderr=subprocess.DEVNULL
    )
    try:
        server = RunningServer(_settings(port, key), key)
        wait_until(lambda: process.poll() is not None or serves(server), seconds=30)
        assert refusals(server) == [401, 404, 400, 403, 200]
        process.terminate()
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()


def test_a_reader_of_the_log_that_goes_away_changes_no_answer(tmp_path: Path) -> None:
    port, key = free_port(), "a-key-of-32-characters-0123456789"
    variables = environment(port=str(port), api_key=key, log_format="json")
    process = subprocess.Popen(
        [sys.executable, "-m", PACKAGE, "serve"], cwd=tmp_path, env=variables, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        server = RunningServer(_settings(port, key), key)
        wait_until(lambda: serves(server), seconds=30)
        process.stderr.close()
        assert refusals(server) == [401, 404, 400, 403, 200]
    finally:
        process.terminate()
        process.wait(15)


def test_a_clock_that_jumps_opens_no_limit_and_closes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    with running_server(max_requests_per_minute=5, receive_timeout=0.5, max_failed_auth_per_minute=3) as server:
        assert [send(server, "GET", "/health").status for _ in range(6)][-1] == 429
        assert [send(server, "GET", "/mcp", [("Authorization", "Bearer x")]).status for _ in range(4)][-1] == 429
        for jump in (-86_400 * 365, 86_400 * 365):
            monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
            assert send(server, "GET", "/health").status == 429, "a jump has opened the limit"
            assert send(server, "GET", "/mcp", [("Authorization", "Bearer x")]).status == 429
            assert send(server, "GET", "/livez").status == 200
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as silent:
                started = time.monotonic()
                assert silent.recv(1) == b""
                assert 0.3 < time.monotonic() - started < 4


def _settings(port: int, key: str) -> Settings:
    return load_settings(_env_file=None, port=port, api_key=key)
