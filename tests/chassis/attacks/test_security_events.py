"""Attacking unseen, or drowning what others did: security events and audit lines."""

import json
from collections.abc import Callable, Iterator

import pytest

from mcp_chassis import prompt, resource, tool
from mcp_chassis.events.log import KINDS, EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.running import RunningServer, running_server, wait_until
from .logs import log_lines
from .wire import Answer, Header, call, key_of, post, rpc, send

SEVERITIES = {
    "authentication_failed": "high",
    "rate_limit_exceeded": "medium",
    "input_validation_failed": "medium",
    "untrusted_origin_blocked": "medium",
    "tool_execution_failed": "high",
    "http_error": "medium",
}
SECRET = "do-not-remember"
WRONG: Header = ("Authorization", "Bearer invalid-key")


@tool(read_only=True)
def greet(name: str) -> str:
    """Greet."""
    return f"Hello, {name}!"


@tool(read_only=True)
def crash(name: str) -> str:
    """Fail."""
    raise RuntimeError(name)


@resource("greeting://{name}")
def greeting(name: str) -> str:
    """Greet."""
    return f"Hello, {name}!"


@prompt()
def introduce(name: str) -> str:
    """Introduce."""
    return f"This is {name}."


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server with something to call, read and get."""
    mcp = GuardedServer("watched", tools=(greet, crash), resources=(greeting,), prompts=(introduce,), events=EventLog())
    with running_server(mcp=mcp) as running:
        yield running


def test_there_are_six_kinds_of_events() -> None:
    assert set(SEVERITIES) == KINDS
    events = EventLog()
    for kind in KINDS:
        events.record(kind)  # type: ignore[arg-type]
    assert {entry["event"]: entry["severity"] for entry in events.recent()} == SEVERITIES


def attacks() -> dict[str, Callable[[RunningServer], Answer]]:
    """Return an attack for each kind of event that HTTP alone can cause."""
    return {
        "authentication_failed": lambda server: send(server, "GET", "/mcp", [WRONG]),
        "input_validation_failed": lambda server: post(server, b"["),
        "untrusted_origin_blocked": lambda server: send(server, "GET", "/health", [("Origin", "https://evil.example")]),
        "http_error": lambda server: send(server, "GET", "/nothing", [key_of(server)]),
    }


@pytest.mark.parametrize("kind", attacks())
def test_an_attack_leaves_one_event_and_one_line(server: RunningServer, kind: str) -> None:
    with log_lines("security") as lines:
        request_id = attacks()[kind](server).header("X-Request-ID")
        wait_until(lambda: request_id in [line["request_id"] for line in lines])
    mine = [(line["kind"], line["severity"]) for line in lines if line["request_id"] == request_id]
    assert mine == [(kind, SEVERITIES[kind])]
    event = next(event for event in server.events() if event["details"]["request_id"] == request_id)
    assert event["event"] == kind
    assert event.keys() == {"timestamp", "event", "identifier", "details", "severity"}


def test_who_missed_a_credential_is_noted_too(server: RunningServer) -> None:
    send(server, "GET", "/mcp")
    event = server.events("authentication_failed")[0]
    assert (event["severity"], event["details"]["reason"]) == ("high", "missing")


def test_a_flood_of_events_does_not_fill_the_memory(server: RunningServer) -> None:
    events = EventLog()
    for number in range(1200):
        events.record("http_error", f"attacker-{number}" * 1000, path="/" + "a" * 10_000, many=list(range(10_000)))
    recent = events.recent(10_000)
    assert len(recent) == 1000
    assert events.total == 1200
    assert len(json.dumps(recent)) < 1_000_000


def test_a_flood_does_not_wash_away_what_else_happened(caplog: pytest.LogCaptureFixture) -> None:
    """One address asks for nothing but trouble, thousands of times, while another one guesses a key once."""
    with log_lines("security") as lines, running_server() as server:
        send(server, "GET", "/mcp", [WRONG])
        for _ in range(100):
            bad = b"GET /nothing HTTP/1.1\nHost: a\n\n", b"GET /nothing HTTP/1.1\r\nHost: evil.example\r\n\r\n" * 10
            for data in bad:
                server.raw(data + b"\x00\r\n\r\n")
        wait_until(lambda: _seen(server, "untrusted_origin_blocked") == 1000)
        assert _seen(server, "http_error") == 200
        assert [event["details"]["reason"] for event in server.events("authentication_failed")] == ["unknown"]
        assert len(server.events()) < 50
        assert len(lines) < 50
        assert len(caplog.records) < 50, "uvicorn has a line for each"
    # The counts are in the log as well, at the latest when the server stops.
    counted = [line["details"].get("count", 1) for line in lines if line["kind"] == "untrusted_origin_blocked"]
    assert sum(counted) == 1000


def _seen(server: RunningServer, kind: str) -> int:
    """Return how many events of a kind there were, those that are counted together among them."""
    return sum(event["details"].get("count", 1) for event in server.events(kind))


def test_the_newest_events_come_first_and_can_be_chosen(server: RunningServer) -> None:
    for kind in ("http_error", "authentication_failed"):
        attacks()[kind](server)
    events = send(server, "GET", "/security/events?limit=2", [key_of(server)]).json()
    assert [event["timestamp"] for event in events["events"]] == sorted(
        (event["timestamp"] for event in events["events"]), reverse=True
    )
    assert len(events["events"]) == 2
    assert events["totalEvents"] >= 2
    assert {event["event"] for event in server.events("http_error")} == {"http_error"}


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "1e3", "%D9%A3", "", "1" * 5000])
def test_a_strange_query_for_events_is_refused(server: RunningServer, limit: str) -> None:
    assert send(server, "GET", f"/security/events?limit={limit}", [key_of(server)]).status == 400
    assert send(server, "GET", "/security/events?event=nothing", [key_of(server)]).status == 400


def test_recording_never_fails_whatever_is_recorded() -> None:
    class Hostile:
        def __str__(self) -> str:
            return "\ud800" + "x" * 10_000

    events = EventLog()
    events.record("http_error", "\x1b[2J\n", value=Hostile(), numbers=(1, 2.5, True, None), text="\udcff\n")
    assert len(events.recent()) == 1


def test_every_call_leaves_one_audit_line_without_its_values(server: RunningServer) -> None:
    with log_lines("audit") as lines:
        call(server, "greet", {"name": SECRET})
        call(server, "crash", {"name": SECRET})
        call(server, "greet", {"name": 7, SECRET[:6]: 8})
        rpc(server, "prompts/get", {"name": "introduce", "arguments": {"name": SECRET}})
        rpc(server, "resources/read", {"uri": "greeting://somebody"})
        rpc(server, "resources/read", {"uri": "nothing://there"})
    facts = [(line["event"], line["outcome"], line["principal"]) for line in lines]
    assert facts == [
        ("tool_call", "ok", "key:default"),
        ("tool_call", "crashed", "key:default"),
        ("tool_call", "rejected", "key:default"),
        ("prompt_get", "ok", "key:default"),
        ("resource_read", "ok", "key:default"),
        ("resource_read", "unknown", "key:default"),
    ]
    assert [line.get("tool") or line.get("prompt") or line["uri"] for line in lines] == [
        *("greet", "crash", "greet", "introduce"),
        *("greeting://somebody", "nothing://there"),
    ]
    assert all(line["duration_ms"] >= 0 and len(line["request_id"]) >= 8 for line in lines)
    assert SECRET not in repr(lines)
    assert lines[0]["arguments"] == {"name": len(SECRET) + 2}


def test_every_request_leaves_one_access_line(server: RunningServer) -> None:
    with log_lines("access") as lines:
        request_id = send(server, "GET", f"/health?secret={SECRET}").header("X-Request-ID")
        wait_until(lambda: request_id in [line["request_id"] for line in lines])
    (line,) = [line for line in lines if line["request_id"] == request_id]
    assert (line["method"], line["path"], line["status"], line["client"]) == ("GET", "/health", 200, "127.0.0.1")
    assert SECRET not in repr(line)
