"""Being taken for another caller: what one caller leaves behind must not become another's."""

import json
import math
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import anyio
import anyio.to_thread
import httpx2
import pytest

from mcp_chassis import resource, tool
from mcp_chassis.auth.keys.store import KeySource
from mcp_chassis.auth.principal import Principal, get_principal
from mcp_chassis.auth.verifier import InvalidCredential, Verifier
from mcp_chassis.calls.running import running_call
from mcp_chassis.events.log import EventLog
from mcp_chassis.http.protocol import _Transport
from mcp_chassis.limits.slots import current_slot
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.sinks.http import call_deadline

from ..support.running import RunningServer, running_server, text, wait_until
from .logs import log_lines
from .wire import ACCEPT, JSON, Header, request_text, send

PING = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
PEOPLE = [f"person-{number}" for number in range(50)]


class People(Verifier):
    """Knows many callers: the token is the name."""

    async def verify(self, token: str) -> Principal:
        """Return the caller of that name."""
        if token not in PEOPLE:
            raise InvalidCredential("unknown")
        await anyio.sleep(0.001 * (len(token) % 3))  # as a look-up would
        return Principal(f"key:{token}", "key", frozenset({token}))


@tool(read_only=True, max_concurrency=50)
async def who_am_i(*, wait: float) -> str:
    """Say who calls, before and after a pause."""
    before = get_principal()
    await anyio.sleep(wait)
    after = get_principal()
    assert before is after
    return after.id


@tool(read_only=True, max_concurrency=50)
def who_am_i_in_a_thread() -> str:
    """Say who calls, from a thread."""
    return get_principal().id


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server with fifty callers."""
    mcp = GuardedServer("people", tools=(who_am_i, who_am_i_in_a_thread), events=EventLog())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeySource, "verifiers", lambda *_: [People()])
        with running_server(mcp=mcp) as running:
            yield running


@pytest.mark.anyio
@pytest.mark.parametrize("tool", ["who_am_i", "who_am_i_in_a_thread"])
async def test_fifty_callers_at_once_are_never_confused(server: RunningServer, tool: str) -> None:
    answers: dict[str, str] = {}

    async def ask(client: httpx2.AsyncClient, name: str, number: int) -> None:
        arguments = {"wait": 0.01 * (number % 7)} if tool == "who_am_i" else {}
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        headers = {"Authorization": f"Bearer {name}", "X-Request-ID": f"request-{PEOPLE.index(name)}"}
        answer = await client.post(server.url + "/mcp", json=message, headers=headers)
        answers[name] = answer.json()["result"]["content"][0]["text"]

    with log_lines("audit") as lines:
        async with httpx2.AsyncClient(trust_env=False) as client, anyio.create_task_group() as tasks:
            for number, name in enumerate(PEOPLE):
                tasks.start_soon(ask, client, name, number)
    assert answers == {name: f"key:{name}" for name in PEOPLE}
    noted = {line["request_id"]: line["principal"] for line in lines}
    assert noted == {f"request-{number}": f"key:{name}" for number, name in enumerate(PEOPLE)}


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_callers_with_the_official_client_are_never_confused(server: RunningServer, mode: str) -> None:
    async def ask(name: str) -> None:
        async with replace(server, key=name).client(mode) as client:
            for _ in range(3):
                result = await client.call_tool("who_am_i", {"wait": 0.005})
                assert text(result) == f"key:{name}"

    async with anyio.create_task_group() as tasks:
        for name in PEOPLE[:8]:
            tasks.start_soon(ask, name)


def pipelined(server: RunningServer, *second: str, path: str = "/mcp") -> tuple[list[str], list[str]]:
    """Send a request with a key and, at once on the same connection, one with other headers.

    Return the statuses and the request ids of the answers.
    """
    headers = ["Content-Type: application/json", "Accept: application/json, text/event-stream"]
    first = [*headers, f"Authorization: Bearer {PEOPLE[0]}", "X-Request-ID: the-first-request"]
    data = request_text(server, "POST /mcp HTTP/1.1", first, PING)
    last = request_text(server, f"POST {path} HTTP/1.1", [*headers, *second, "Connection: close"], PING)
    received = server.raw(data + last).decode()
    return re.findall(r"HTTP/1\.1 (\d{3})", received), re.findall(r"x-request-id: (\S+)", received)


def principals(lines: list[dict[str, Any]], ids: list[str]) -> list[str | None]:
    """Return whom the access lines of these requests name, once they are all written."""
    wait_until(lambda: set(ids) <= {line["request_id"] for line in lines})
    return [next(line["principal"] for line in lines if line["request_id"] == wanted) for wanted in ids]


def test_a_pipelined_request_has_no_caller_without_its_own_credential(server: RunningServer) -> None:
    """It is served in a task that copies the context of the request before it."""
    with log_lines("access") as lines, log_lines("security") as events:
        statuses, ids = pipelined(server)
        assert statuses == ["200", "401"]
        assert principals(lines, ids) == [f"key:{PEOPLE[0]}", None]
    assert ids[0] == "the-first-request" != ids[1]
    assert events[0]["identifier"] == "127.0.0.1"
    assert events[0]["details"]["request_id"] == ids[1]


def test_a_pipelined_request_that_is_refused_early_has_no_caller_either(server: RunningServer) -> None:
    """The refusal of its Origin comes before authentication."""
    with log_lines("access") as lines, log_lines("security") as events:
        statuses, ids = pipelined(server, "Origin: https://evil.example")
        assert statuses == ["200", "403"]
        assert principals(lines, ids) == [f"key:{PEOPLE[0]}", None]
    assert events[0]["identifier"] == "127.0.0.1"


def test_a_pipelined_request_of_another_caller_is_that_callers(server: RunningServer) -> None:
    with log_lines("access") as lines:
        statuses, ids = pipelined(server, f"Authorization: Bearer {PEOPLE[1]}", "X-Request-ID: the-second-request")
        assert statuses == ["200", "200"]
        assert ids == ["the-first-request", "the-second-request"]
        assert principals(lines, ids) == [f"key:{PEOPLE[0]}", f"key:{PEOPLE[1]}"]


def test_an_event_of_one_request_does_not_hide_the_next_ones(server: RunningServer) -> None:
    """`http_error` is noted unless something more precise was: the mark must not outlive its request."""
    with log_lines("security") as events:
        for _ in range(2):
            server.raw(request_text(server, "GET /nothing HTTP/1.1", ["Connection: close"]))
        pipelined(server, f"Authorization: Bearer {PEOPLE[1]}", path="/nothing")
        wait_until(lambda: len(events) == 3)
    assert [event["kind"] for event in events] == ["authentication_failed"] * 2 + ["http_error"]


@tool(read_only=True, timeout=0.3)
async def hurry() -> str:
    """Return soon."""
    await anyio.sleep(0.15)
    return "done"


@resource("test://context")
async def context() -> str:
    """Return what a request finds in its context."""
    with suppress(LookupError):
        return f"found: the call of {running_call().tool}"
    return f"found: {call_deadline.get()} {current_slot.get(None)}"


@pytest.mark.parametrize("fast_path", [True, False])
def test_requests_on_one_connection_find_nothing_of_the_call_before_them(
    monkeypatch: pytest.MonkeyPatch, fast_path: bool
) -> None:
    """Pipelined, or sent after a pause: asyncio reads on in the context in which reading was resumed."""
    monkeypatch.setattr(KeySource, "verifiers", lambda *_: [People()])
    mcp = GuardedServer("context", tools=(hurry,), resources=(context,), events=EventLog())
    with running_server(mcp=mcp, fast_path=fast_path) as server:
        headers = ["Content-Type: application/json", "Accept: application/json, text/event-stream"]
        headers += [f"Authorization: Bearer {PEOPLE[0]}", "MCP-Protocol-Version: 2025-11-25"]
        call, read = (
            request_text(server, "POST /mcp HTTP/1.1", headers, json.dumps({"jsonrpc": "2.0", "id": 1} | message))
            for message in (
                {"method": "tools/call", "params": {"name": "hurry", "arguments": {}}},
                {"method": "resources/read", "params": {"uri": "test://context"}},
            )
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            received = b""
            for number, first in enumerate((call, b"", call, b""), 1):
                connection.sendall(first if number == 3 else first + read)
                if number == 3:  # reading is paused during the call, and resumed at its end
                    time.sleep(0.05)
                    connection.sendall(read)
                while received.count(b"found: ") < number:
                    part = connection.recv(65_536)
                    assert part
                    received += part
    assert re.findall(rb'found: ([^"]*)"', received) == [b"inf None"] * 4


def test_reading_is_resumed_in_the_context_of_the_connection() -> None:
    """Not in that of the request that resumes it: asyncio keeps it for all later data."""
    seen = []
    protocol, transport = Mock(context=copy_context()), Mock()
    transport.resume_reading = lambda: seen.append(call_deadline.get())
    token = call_deadline.set(1.0)
    _Transport(transport, protocol).resume_reading()
    call_deadline.reset(token)
    assert seen == [math.inf]


def test_there_is_no_session_to_hijack(server: RunningServer) -> None:
    """Every request stands for itself: an identifier of a session neither is given nor opens anything."""
    parameters = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters}
    key: Header = ("Authorization", f"Bearer {PEOPLE[0]}")
    session: Header = ("Mcp-Session-Id", "0123456789abcdef")
    answer = send(server, "POST", "/mcp", [key, JSON, ACCEPT], json.dumps(message).encode())
    assert answer.status == 200
    assert answer.header("Mcp-Session-Id") is None
    assert send(server, "POST", "/mcp", [session, JSON, ACCEPT], PING.encode()).status == 401
    assert send(server, "POST", "/mcp", [key, session, JSON, ACCEPT], PING.encode()).header("Mcp-Session-Id") is None


def test_outside_of_a_call_there_is_no_caller() -> None:
    with pytest.raises(LookupError):
        get_principal()
