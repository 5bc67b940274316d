"""Attacking unseen, or drowning what others did: security events and audit lines."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcp_chassis import prompt, resource, tool
from mcp_chassis.events import sampling
from mcp_chassis.events.log import KINDS, EventLog
from mcp_chassis.events.logging import output
from mcp_chassis.http.current_request import RequestContext
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.middleware.request_context import AccessLog

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
    "key_expires": "medium",
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


def test_there_are_seven_kinds_of_events() -> None:
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
    assert 500 < len(recent) <= 1000
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


@pytest.mark.parametrize(
    ("path", "status"), [("/mcp", 401), ("/nothing", 401), ("/livez", 200)], ids=["mcp", "nothing", "probe"]
)
def test_repeated_requests_of_a_stranger_do_not_fill_the_disk(tmp_path: Path, path: str, status: int) -> None:
    """50 GB a day, from one connection: no limit of requests keeps a stranger from being refused, nor from a probe."""
    trail, key = tmp_path / "audit.jsonl", secrets.token_urlsafe(32)
    with (
        log_lines("access") as lines,
        log_lines("security") as events,
        running_server(audit_file=trail, audit_key=key) as server,
    ):
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
        for _ in range(20):
            server.raw(request * 10 + b"\0", timeout=1)
        send(server, "GET", "/health", [key_of(server)])
        wait_until(lambda: lines and lines[-1]["path"] == "/health")
        assert len(lines) == 11, "events of authenticated callers are not sampled"
    mine = [line for line in lines if (line["path"], line["status"]) == (path, status)]
    assert [line.get("count", 1) for line in mine] == [1] * 10 + [190]
    recorded = [json.loads(line) for line in trail.read_text().splitlines()]
    refused = [record.get("mcp.requests", 1) for record in recorded if record["http.response.status_code"] == status]
    assert sum(refused) == (200 if status >= 400 else 0)
    assert len(recorded) < 30
    assert len(events) < 30


def test_made_up_names_do_not_wash_away_what_else_happened() -> None:
    """Each of them was an event of its own, and a thousand of them were all that was kept."""
    with running_server() as server:
        send(server, "GET", "/mcp", [WRONG])
        send(server, "GET", "/health", [("Origin", "https://evil.example")])
        for number in range(1100):
            rpc(server, "tools/call", {"name": f"made-up-{number}", "arguments": {}})
        found = server.events()
    assert {"authentication_failed", "untrusted_origin_blocked"} <= {event["event"] for event in found}
    assert len(found) < 50
    assert sum(event["details"].get("count", 1) for event in found) == 1102


def test_severe_events_are_kept_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = EventLog(keep=100), [1000.0]
    monkeypatch.setattr(sampling, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for number in range(50):
        log.record("tool_execution_failed", f"key:{number}", severity="high")
    for number in range(500):
        log.record("tool_execution_failed", f"key:{number}", severity="low")
        log.record("http_error", f"key:{number}", severity="medium")
    found = [event["severity"] for event in log.recent(100)]
    assert [found.count(severity) for severity in ("low", "medium", "high")] == [25, 25, 50]


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
        rpc(server, "resources/read", {"uri": "greeting://world"})
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
    assert [line.get("tool") or line.get("prompt") or line["resource"] for line in lines] == [
        *("greet", "crash", "greet", "introduce"),
        *("greeting://{name}", lines[-1]["resource"]),
    ]
    assert lines[-1]["resource"].startswith("(unknown: 15 characters, ")
    assert all(line["duration_ms"] >= 0 and len(line["request_id"]) >= 8 for line in lines)
    assert SECRET not in repr(lines)
    assert lines[0]["argument_bytes"] == {"name": len(SECRET) + 2}


def test_a_call_leaves_the_line_of_its_call_and_no_second_one_of_its_request(server: RunningServer) -> None:
    """Which has what the other would say. Whatever was refused, or is no call, has a line of its own."""

    def request_id(method: str, **params: object) -> str | None:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return post(server, json.dumps(message).encode()).header("X-Request-ID")

    with log_lines("access") as requests, log_lines("audit") as calls:
        served = request_id("tools/call", name="greet", arguments={"name": "Ada"})
        crashed = request_id("tools/call", name="crash", arguments={"name": "Ada"})
        refused = send(server, "POST", "/mcp", [WRONG]).header("X-Request-ID")
        listed = request_id("tools/list")
        wait_until(lambda: [line["request_id"] for line in requests] == [refused, listed])
    assert [(line["request_id"], line["outcome"]) for line in calls] == [(served, "ok"), (crashed, "crashed")]
    assert {(line["client"], line["principal"]) for line in calls} == {("127.0.0.1", "key:default")}
    assert all(line["duration_ms"] > 0 for line in calls)


def test_a_call_that_was_refused_or_not_answered_keeps_the_line_of_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its audit line has no status; 0 is a client that disconnected first."""
    monkeypatch.setattr(output, "one_line_a_call", True)
    request, access = RequestContext("0123456789", "192.0.2.7", audited=True), AccessLog()
    with log_lines("access") as lines:
        for status in (0, 200, 399, 400, 403, 500):
            access.add(request, {"status": status, "principal": "key:default"})
    assert [line["status"] for line in lines] == [0, 400, 403, 500]


def test_every_request_leaves_one_access_line(server: RunningServer) -> None:
    with log_lines("access") as lines:
        request_id = send(server, "GET", f"/health?secret={SECRET}").header("X-Request-ID")
        wait_until(lambda: request_id in [line["request_id"] for line in lines])
    (line,) = [line for line in lines if line["request_id"] == request_id]
    assert (line["method"], line["path"], line["status"], line["client"]) == ("GET", "/health", 200, "127.0.0.1")
    assert SECRET not in repr(line)
