"""Bodies that are small in bytes and large in work: no other caller is served while the event loop is busy."""

import gc
import http.client
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from mcp_chassis import prompt, resource, tool
from mcp_chassis.calls.output import Output
from mcp_chassis.events.log import EventLog
from mcp_chassis.http.current_request import RequestContext, current_request
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.hostile import VERSIONS, LoopWatch, bodies, post, seconds_to_parse
from ..support.running import RunningServer, running_server

WATCH = LoopWatch()
SIZE = 1_000_000
MOST_NODES = 20_000
LONGEST = 0.3
"""Seconds of processor time: three times the goal on the machine that it was set for, and a tenth of what it was."""


class Item(BaseModel):
    """An item of a list."""

    a: int
    b: str = ""


@tool(read_only=True)
async def watch() -> str:
    """Begin to measure."""
    WATCH.start()
    return ""


@tool(read_only=True)
async def anything(value: Any = None) -> Any:
    """Return what it gets."""
    return value


@tool(read_only=True)
async def items(value: list[Item]) -> int:
    """Count items."""
    return len(value)


@tool(read_only=True)
async def numbers(value: Annotated[list[float], Field(max_length=10_000)]) -> float:
    """Add numbers."""
    return sum(value)


@tool()
async def destroy(value: Any = None) -> str:
    """Ask first."""
    return ""


@resource("note://{name}")
def note(name: str) -> str:
    """Return a note."""
    return name


@prompt()
def greet(name: str = "") -> str:
    """Greet."""
    return name


@tool(read_only=True)
async def keep() -> str:
    """Keep the event loop for longer than any body may."""
    end = time.thread_time() + 1.2 * LONGEST
    while time.thread_time() < end:
        pass
    return ""


TOOLS = (watch, keep, anything, items, numbers, destroy)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server whose event loop is watched."""
    output = Output(events=EventLog(), max_tokens=1_000_000)
    mcp = GuardedServer("stalls", tools=TOOLS, resources=(note,), prompts=(greet,), events=output.events, output=output)
    with running_server(mcp) as running:
        gc.collect()
        gc.freeze()  # as `serve` does
        assert running.call("watch", {}).status_code == 200
        yield running
        WATCH.stop()
        gc.unfreeze()


def stalls(server: RunningServer, table: dict[str, bytes], version: str, named: str) -> list[str]:
    """Return the bodies that keep the loop too long, and those that are answered with a 5xx."""
    found = []
    for what, body in table.items():
        opens_a_stream = " in a filter" in what
        seconds = 0.5 if opens_a_stream else 30
        statuses: list[int] = []

        def turn() -> float:
            return WATCH.during(lambda: statuses.append(post(server, version, body, named, seconds=seconds)))  # noqa: B023

        longest = turn()
        if longest > LONGEST:  # once is not enough: other programs use the same caches
            longest = min(longest, turn(), turn())
        if (longest > LONGEST and longest > LONGEST + 10 * seconds_to_parse(body)) or max(statuses) >= 500:
            found.append(f"{what}, {version}: {longest:.2f} s, status {statuses[0]}")
        if statuses[0] == 0 and not opens_a_stream:
            return [*found, f"{what}, {version}: no answer in {seconds} s"]
    return found


def test_a_turn_that_takes_long_is_seen(server: RunningServer) -> None:
    assert WATCH.during(lambda: server.call("anything", {"value": 1})) < LONGEST
    assert WATCH.during(lambda: server.call("keep", {})) > LONGEST


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nodes", [MOST_NODES - 200, SIZE])
def test_no_body_keeps_the_event_loop(server: RunningServer, version: str, nodes: int) -> None:
    table = bodies(version, SIZE, nodes, tool="anything", argument="value")
    assert stalls(server, table, version, "anything") == []


@pytest.mark.parametrize("name", ["items", "destroy", "numbers"])
def test_no_argument_keeps_the_event_loop_by_breaking_rules(server: RunningServer, name: str) -> None:
    for version in VERSIONS:
        table = bodies(version, SIZE, MOST_NODES - 200, tool=name, argument="value")
        arguments = {what: body for what, body in table.items() if "argument" in what}
        assert stalls(server, arguments, version, name) == []


@pytest.mark.parametrize("place", ["path", "Host", "Origin", "X-Request-ID"])
def test_no_head_keeps_the_event_loop(server: RunningServer, place: str) -> None:
    """What a client sends elsewhere is searched for its credentials before it is written: it chooses both."""
    text = "".join(chr(97 + number * number % 26) for number in range(799))
    for common in (text, "a" * 799, "%61" * 266):
        headers = {"Host": f"127.0.0.1:{server.port}", "Cookie": ("a" * 7 + "b") * 1500 + common, "Connection": "close"}
        headers |= {place: common[:255]} if place != "path" else {}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"GET /{common if place == 'path' else 'nothing'} HTTP/1.1\r\n{head}\r\n"
        before = time.process_time()
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(request.encode())
            response = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert response.startswith(b"HTTP/1.1 4")
        assert time.process_time() - before < LONGEST


@pytest.mark.parametrize("header", [b"authorization", b"cookie", b"x-api-key"])
@pytest.mark.parametrize("path", ["/nothing-is-here", "/" + "A" * 200])
def test_large_credentials_are_no_work_for_the_interpreter(header: bytes, path: str) -> None:
    """Every detail of an event is searched for them, before anyone has been authenticated."""

    def steps(size: int) -> int:
        count = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal count
            frame.f_trace_opcodes = True
            count += event == "opcode"
            return trace

        request = RequestContext("0" * 32, "192.0.2.1", [(header, b"A" * size)])
        token, tracer = current_request.set(request), sys.gettrace()
        try:
            sys.settrace(trace)
            EventLog().record("http_error", status=404, method="GET", path=path, reason="not_found")
        finally:
            sys.settrace(tracer)
            current_request.reset(token)
        return count

    assert 100 < steps(15_000) < 1.2 * steps(300)


def test_others_are_served_while_one_caller_sends_forty_large_bodies(server: RunningServer) -> None:
    """Each of them is served, and `/livez` waits for few of them: what is compared is the time that they take."""
    body = bodies(VERSIONS[1], SIZE, MOST_NODES - 200, tool="anything", argument="value")["digits in an argument"]
    body += b" " * (SIZE - len(body))
    post(server, VERSIONS[1], body, "anything")
    started = time.monotonic()
    statuses: list[int] = []
    callers = [
        threading.Thread(target=lambda: statuses.append(post(server, VERSIONS[1], body, "anything"))) for _ in range(40)
    ]
    for caller in callers:
        caller.start()
    waits = []
    probe = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    while any(caller.is_alive() for caller in callers):
        asked = time.monotonic()
        probe.request("GET", "/livez")
        assert probe.getresponse().read()
        waits.append(time.monotonic() - asked)
    probe.close()
    assert statuses == [200] * 40
    assert len(waits) > 5
    assert max(waits) < (time.monotonic() - started) / 2


def test_large_honest_calls_are_served(server: RunningServer) -> None:
    text = 'comma, [bracket] {brace} "quote" \\ ' * 27_000
    answer = server.call("anything", {"value": text}).json()
    assert answer["result"]["content"][0]["text"] == text
    assert server.call("numbers", {"value": [0.5] * 10_000}).json()["result"]["structuredContent"] == {"result": 5000.0}
    many = server.call("numbers", {"value": [0.5] * 10_001}).json()["result"]
    assert many["isError"]
    listed = server.call("anything", {"value": list(range(10_000))}).json()["result"]
    assert "".join(block["text"] for block in listed["content"]).split() == [str(number) for number in range(10_000)]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"name": "anything", "arguments": {"value": [0] * 20_001}}, "the document holds more than 20000 values"),
        ({"name": "anything", "arguments": {"value": [[]] * 10_001}}, "the document holds more than 20000 values"),
        ({"name": "anything", "arguments": {"value": ['\\",'] * 20_001}}, "the document holds more than 20000 values"),
    ],
)
def test_a_body_of_too_many_values_is_refused(server: RunningServer, params: dict[str, Any], reason: str) -> None:
    answer = server.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, f"Parse error: {reason}")


@pytest.mark.parametrize(
    ("method", "params", "reason"),
    [
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["note://1"] * 1001}}, "1000 values"),
        ("prompts/get", {"name": "greet", "arguments": dict.fromkeys(map(str, range(1001)), "")}, "1000 values"),
        ("resources/read", {"uri": "note://" + "x" * 65_536}, "65536 bytes"),
        ("initialize", {"capabilities": {"x": "x" * 65_536}}, "65536 bytes"),
    ],
)
def test_only_a_tool_call_may_be_large(server: RunningServer, method: str, params: Any, reason: str) -> None:
    answer = server.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


def test_a_prompt_takes_a_long_text(server: RunningServer) -> None:
    params = {"name": "greet", "arguments": {"name": "word, " * 100_000}}
    answer = server.post({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": params})
    assert answer.json()["result"]["messages"][0]["content"]["text"] == "word, " * 100_000


def test_the_bytes_of_a_caller_count_as_its_calls_do() -> None:
    """Of a hundred calls in a minute, six may have a megabyte, or twenty many values."""
    with running_server(max_requests_per_minute=100) as server:
        large = bodies(VERSIONS[1], SIZE, 100, tool="hello_world", argument="name")["text in an argument"]
        statuses = [post(server, VERSIONS[1], large, "hello_world") for _ in range(10)]
        assert statuses == [200] * 6 + [429] * 4
    with running_server(max_requests_per_minute=100) as server:
        many = bodies(VERSIONS[1], 60_000, MOST_NODES - 200, tool="hello_world", argument="name")
        assert [post(server, VERSIONS[1], many["digits in an argument"], "hello_world") for _ in range(25)] == (
            [200] * 20 + [429] * 5
        )
    with running_server(max_requests_per_minute=5) as small:  # a large body wants all places, and never more
        assert [post(small, VERSIONS[1], large, "hello_world") for _ in range(2)] == [200, 429]
    with running_server(max_requests_per_minute=1) as least:
        assert [post(least, VERSIONS[1], large, "hello_world") for _ in range(2)] == [200, 429]
