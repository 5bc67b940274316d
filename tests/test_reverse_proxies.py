"""The examples for nginx and Caddy, in the real programs, in front of a real server.

Each test is a promise of the examples that a plausible change breaks: `$host`, an appended X-Forwarded-For, buffering,
a repeated POST, a body of another size.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from baking import bake
from proxies import Proxy, caddy, free_port, listens, nginx, running, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the programs are installed on Linux only"),
]

KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"
Starter = Callable[[Path, Path, int, "list[int]"], AbstractContextManager[Proxy]]
PROXIES: dict[str, Starter] = {"nginx": nginx, "caddy": caddy}

# A server of the project with two tools of its own. They leave files behind, for the tests to see what they did.
SERVER = '''
from pathlib import Path
from typing import Any
import anyio
from mcp.server.mcpserver import Context
from mcp_chassis import Service, tool
from mcp_chassis.cli import run

@tool(destructive=False)
async def count(call: int) -> str:
    """Leave a line behind."""
    with open("calls", "a") as calls:
        calls.write(f"{call}\\n")
    return "counted"

@tool(read_only=True)
async def steps(name: str, ctx: Context[Any, Any]) -> str:
    """Say something, wait for a file, and say something more."""
    try:
        Path(name + ".started").touch()
        await ctx.report_progress(1, 2, "the first step")
        while not Path(name).exists():
            await anyio.sleep(0.02)
    except BaseException:
        Path(name + ".cancelled").touch()
        raise
    return "all steps"

run(Service(module="tests", tools=(count, steps)), ["serve"])
'''


@dataclass(frozen=True)
class Behind:
    """A server behind a proxy, and the directory that it leaves its files in."""

    proxy: Proxy
    directory: Path

    def calls(self) -> list[int]:
        """The calls of `count` that have run, in their order."""
        path = self.directory / "calls"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def access(self) -> list[dict[str, Any]]:
        """The server's lines about requests."""
        lines = (json.loads(line) for line in (self.directory / "output").read_text().splitlines())
        return [line for line in lines if line["logger"] == "access"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake(tmp_path_factory.mktemp("project"), deployment="docker")


@contextmanager
def started(kind: str, project: Path, directory: Path, *, before: list[int] | None = None) -> Iterator[Behind]:
    """Start a server and a proxy in front of it; `before` are the ports of servers that the proxy knows as well."""
    front, port = free_port(), free_port()
    name = {"nginx": "mcp.example.com", "caddy": "localhost"}[kind]
    environment = {
        "PYTHONPATH": str(project / "src"),
        "SECRETS_DIR": os.devnull,
        "API_KEY": KEY,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "PUBLIC_URL": f"https://{name}:{front}",
        "TRUSTED_PROXIES": "127.0.0.1",
        "MAX_REQUESTS_PER_MINUTE": "100000",
        "LOG_FORMAT": "json",
    }
    (directory / "server").mkdir()
    (directory / "proxy").mkdir()
    with running([sys.executable, "-c", SERVER], directory / "server", environment) as process:
        wait_until(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, (directory / "server/output").read_text()
        with PROXIES[kind](project, directory / "proxy", front, [*(before or []), port]) as proxy:
            yield Behind(proxy, directory / "server")


@pytest.fixture(scope="module", params=PROXIES)
def behind(request: pytest.FixtureRequest, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """One server behind one proxy."""
    with started(request.param, project, tmp_path_factory.mktemp(request.param)) as running_one:
        yield running_one


HEADERS = {
    "Authorization": f"Bearer {KEY}",
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
}


def message(tool: str, *, streamed: bool = False, **arguments: Any) -> bytes:
    """The call of a tool, with the wish for progress if it is to be streamed."""
    params = {"name": tool, "arguments": arguments} | ({"_meta": {"progressToken": 1}} if streamed else {})
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


@contextmanager
def call(
    proxy: Proxy, tool: str, *, streamed: bool = False, length: int = 0, **arguments: Any
) -> Iterator[HTTPResponse]:
    """Call a tool through the proxy, with spaces behind the message if it is to be longer."""
    body = message(tool, streamed=streamed, **arguments).ljust(length)
    with proxy.request("POST", "/mcp", body, HEADERS) as answer:
        yield answer


def test_the_host_arrives_with_its_port(behind: Behind) -> None:
    """PUBLIC_URL has a port here, so a Host without it is answered by 421."""
    with behind.proxy.request("GET", "/health") as answer:
        assert (answer.status, json.load(answer)) == (200, {"status": "ok"})


def test_a_forged_address_is_replaced(behind: Behind) -> None:
    """An entry added behind the forged one would do harm here: this machine is a trusted proxy, so it is skipped."""
    forged = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}
    before = len(behind.access())
    with behind.proxy.request("GET", "/security/events", headers=forged) as answer:
        assert answer.status == 401
    wait_until(lambda: any(line["path"] == "/security/events" for line in behind.access()[before:]))
    assert "203.0.113.9" not in (behind.directory / "output").read_text()


def test_a_stream_arrives_while_the_tool_works(behind: Behind) -> None:
    with call(behind.proxy, "steps", streamed=True, name="go") as answer:
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        assert b"the first step" in until(answer, b"the first step")
        (behind.directory / "go").touch()
        assert b"all steps" in answer.read()


def until(answer: HTTPResponse, wanted: bytes) -> bytes:
    """Read line by line to the one that holds `wanted`; a stream that is held back ends in a time-out."""
    read = b""
    while wanted not in read:
        line = answer.readline()
        assert line, f"the stream ended without {wanted!r}: {read!r}"
        read += line
    return read


@pytest.mark.parametrize("streamed", [True, False])
def test_a_tool_ends_when_its_caller_leaves(behind: Behind, streamed: bool) -> None:
    """With `proxy_ignore_client_abort on`, nginx would let it run on."""
    name = f"never-{streamed}"
    if streamed:
        with call(behind.proxy, "steps", streamed=True, name=name) as answer:
            until(answer, b"the first step")
    else:
        with behind.proxy.connection() as connection:
            connection.request("POST", "/mcp", message("steps", name=name), HEADERS)
            wait_until((behind.directory / f"{name}.started").exists)
    wait_until((behind.directory / f"{name}.cancelled").exists, seconds=20)


def test_a_body_may_be_as_long_as_the_server_lets_it_be(behind: Behind) -> None:
    with call(behind.proxy, "count", length=1_048_576, call=-1) as answer:
        assert answer.status == 200, answer.read()
    with call(behind.proxy, "count", length=1_048_577, call=-2) as answer:
        assert answer.status == 413
    assert behind.calls() == [-1]


def test_another_name_gets_no_answer(project: Path, tmp_path: Path) -> None:
    with (
        started("nginx", project, tmp_path) as behind,
        pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"),
        behind.proxy.connection(name="other.example.com"),
    ):
        pass


class Dying:
    """A server that is well when it is asked for its health, and disconnects in the middle of every call."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            head, _, body = self._read(connection)
            if head.startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            elif body:
                self.heard.append(json.loads(body)["params"]["arguments"]["call"])

    def _read(self, connection: socket.socket) -> tuple[bytes, bytes, bytes]:
        received = b""
        while b"\r\n\r\n" not in received or (received.startswith(b"POST") and not received.endswith(b"}")):
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
        return received.partition(b"\r\n\r\n")

    def close(self) -> None:
        """Stop listening: from now on no client can connect."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.mark.parametrize("kind", PROXIES)
def test_a_call_that_was_sent_is_never_sent_again(kind: str, project: Path, tmp_path: Path) -> None:
    dying = Dying()
    statuses = {}
    try:
        with started(kind, project, tmp_path, before=[dying.port]) as behind:
            for number in range(8):
                with call(behind.proxy, "count", call=number) as answer:
                    statuses[number] = answer.status
            ran = behind.calls()
    finally:
        dying.close()
    assert dying.heard, "the test shows nothing unless a call gets to the server that dies"
    assert sorted(dying.heard + ran) == list(range(8)), "every call has got to exactly one server"
    assert statuses == {number: 200 if number in ran else 502 for number in range(8)}


@pytest.mark.parametrize("kind", PROXIES)
def test_an_unreachable_server_costs_no_client_a_call(kind: str, project: Path, tmp_path: Path) -> None:
    gone = Dying()
    with started(kind, project, tmp_path, before=[gone.port]) as behind:
        gone.close()
        for number in range(8):
            with call(behind.proxy, "count", call=number) as answer:
                assert answer.status == 200, answer.read()
        assert behind.calls() == list(range(8))
    assert not gone.heard
