"""Security events: seven kinds, bounded, and recording never fails."""

import contextvars
import dataclasses
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import anyio
import pytest
import structlog

from mcp_chassis.events import log as events
from mcp_chassis.events import sampling, untrusted
from mcp_chassis.events.log import EventLog
from mcp_chassis.events.logging import _add_origin
from mcp_chassis.http import current_request as request_context


@pytest.fixture
def request_() -> Iterator[request_context.RequestContext]:
    request = request_context.RequestContext("request-1", "192.0.2.1")
    token = request_context.current_request.set(request)
    yield request
    request_context.current_request.reset(token)


def test_the_seven_kinds() -> None:
    assert {
        *("authentication_failed", "rate_limit_exceeded", "input_validation_failed"),
        *("untrusted_origin_blocked", "tool_execution_failed", "http_error", "key_expires"),
    } == events.KINDS


def test_an_event_says_when_what_who_and_how_bad() -> None:
    log = EventLog()
    log.record("authentication_failed", "oauth:alice", reason="expired")
    (event,) = log.recent()
    age = datetime.now(UTC) - datetime.fromisoformat(event.pop("timestamp"))
    assert timedelta(seconds=-1) < age < timedelta(seconds=10)
    assert event == {
        "event": "authentication_failed",
        "identifier": "oauth:alice",
        "details": {"reason": "expired"},
        "severity": "high",
    }


def test_the_severity_is_the_kinds_own_unless_said_otherwise() -> None:
    log = EventLog()
    log.record("tool_execution_failed", severity="low")
    log.record("tool_execution_failed")
    assert [event["severity"] for event in log.recent()] == ["high", "low"]


def test_in_a_request_the_event_knows_it_and_the_request_knows_of_the_event(
    request_: request_context.RequestContext,
) -> None:
    log = EventLog()
    log.record("http_error")
    log.record("http_error", "oauth:alice")
    by_alice, anonymous = log.recent()
    assert anonymous["identifier"] == "192.0.2.1"
    assert by_alice["identifier"] == "oauth:alice"
    assert by_alice["details"] == {"request_id": "request-1", "client": "192.0.2.1"}
    assert request_.event_recorded


def test_outside_of_a_request_the_client_is_local() -> None:
    log = EventLog()
    contextvars.Context().run(log.record, "http_error")
    assert log.recent()[0]["identifier"] == "local"


def test_the_newest_comes_first_and_the_oldest_is_forgotten() -> None:
    log = EventLog(keep=3)
    for number in range(5):
        log.record("http_error", number=number)
    assert [event["details"]["number"] for event in log.recent()] == [4, 3, 2]
    assert log.total == 5


def test_one_kind_can_be_asked_for_and_a_number_of_them() -> None:
    log = EventLog()
    for number in range(4):
        log.record("http_error", number=number)
        log.record("rate_limit_exceeded", number=number)
    assert [event["details"]["number"] for event in log.recent(2, "http_error")] == [3, 2]
    assert len(log.recent(3)) == 3
    assert log.recent(10, "untrusted_origin_blocked") == []


def test_details_cannot_fill_the_memory() -> None:
    log = EventLog()
    log.record("http_error", "a" * 1000, text="a" * 100_000, items=["a" * 100_000] * 1000, inner={"a": "b" * 1000})
    assert len(json.dumps(log.recent())) < 10_000


@pytest.mark.parametrize("value", ["\ud800", "a\ud800b", "\x00\n", b"\xff", object(), [["\udfff"]], 1.5, None, True])
def test_whatever_the_details_hold_they_can_be_sent(value: object) -> None:
    """One lone surrogate, and `/security/events` would fail until the event leaves the ring."""
    log = EventLog()
    log.record("http_error", value=value)
    assert json.dumps(log.recent(), ensure_ascii=False).encode()


def test_a_secret_is_not_remembered_wherever_a_client_put_it() -> None:
    secret = "kT4" + secrets.token_urlsafe(32)
    untrusted.add_secrets([secret])
    log = EventLog()
    for length in range(150, 201):  # a cut before the redaction would leave a part of it
        log.record("http_error", path="/" + "a" * length + secret, items=[secret])
    remembered = json.dumps(log.recent())
    assert not [piece for piece in (secret[i : i + 8] for i in range(len(secret) - 7)) if piece in remembered]


def test_an_event_cannot_be_changed() -> None:
    event = events.SecurityEvent("now", "http_error", "alice", {}, "low")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.severity = "high"  # type: ignore[misc]


def test_an_event_is_one_log_line() -> None:
    with structlog.testing.capture_logs() as lines:
        EventLog().record("http_error", "alice", status=404)
    (line,) = lines
    assert line["event"] == "security_event"
    assert (line["kind"], line["identifier"], line["severity"]) == ("http_error", "alice", "medium")
    assert line["details"] == {"status": 404}


def test_of_a_flood_the_first_are_noted_and_the_rest_is_counted() -> None:
    log = EventLog()
    with structlog.testing.capture_logs() as lines:
        for number in range(1000):
            log.record("http_error", "mallory", number=number)
        assert [event["details"]["number"] for event in reversed(log.recent())] == [*range(10), 999]
        assert log.recent()[0]["details"]["count"] == 990
        assert log.total == 1000
        assert len(lines) == 10, "the first are written at once"
        log.flush()
        log.flush()
    assert [line["details"].get("count", 1) for line in lines] == [1] * 10 + [990]


def test_a_flood_hides_no_other_client_and_no_other_reason() -> None:
    log = EventLog()
    for number in range(500):
        log.record("http_error", "mallory", number=number)
        if number == 250:
            log.record("http_error", "alice")
            log.record("http_error", "mallory", reason="another")
            log.record("http_error", "mallory", severity="high")
            log.record("authentication_failed", "mallory")
    others = [event for event in log.recent() if "number" not in event["details"]]
    assert len(others) == 4
    assert log.recent()[0]["details"]["count"] == 490, "what still goes on comes first"


def test_ipv6_addresses_of_one_customer_are_one_flood() -> None:
    log = EventLog()
    for number in range(100):
        log.record("http_error", f"2001:db8::{number:x}")
        log.record("http_error", f"key:{number}")
    assert len(log.recent(1000)) == 11 + 100


def test_after_a_while_a_flood_is_news_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = EventLog(), [1000.0]
    # A clock that jumps does not matter.
    monkeypatch.setattr(sampling, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: -1e9))
    with structlog.testing.capture_logs() as lines:
        for _ in range(30):
            log.record("http_error", "mallory")
        now[0] += 61
        log.record("http_error", "alice")  # anything that happens ends the period
        log.record("http_error", "mallory")
    assert [line["details"].get("count", 1) for line in lines] == [*[1] * 10, 20, 1, 1]


def test_a_flood_from_everywhere_fills_neither_the_memory_nor_the_disk() -> None:
    log = EventLog()
    with structlog.testing.capture_logs() as lines:
        for number in range(30_000):
            log.record("http_error", f"attacker-{number}")
        log.flush()
    assert len(lines) < 600
    assert sum(line["details"].get("count", 1) for line in lines) == 30_000


def test_a_caller_that_varies_what_it_does_fills_neither() -> None:
    log = EventLog()
    with structlog.testing.capture_logs() as lines:
        for number in range(30_000):
            log.record("http_error", "mallory", reason=f"reason {number}")
        log.flush()
    assert len(lines) < 100
    assert sum(line["details"].get("count", 1) for line in lines) == 30_000


def test_one_caller_cannot_wash_out_the_events_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that takes its time: its events are new ones every minute, and of every kind."""
    log, now = EventLog(), [1000.0]
    monkeypatch.setattr(sampling, "time", SimpleNamespace(monotonic=lambda: now[0]))
    log.record("input_validation_failed", "key:alice")
    for minute in range(300):
        now[0] = 1000.0 + 61 * minute
        for tool in range(30):
            log.record("input_validation_failed", "key:mallory", tool=f"tool {tool}")
    assert len(log.recent(10_000)) == 1000
    assert [event["event"] for event in log.recent(10_000) if event["identifier"] == "key:alice"]


def test_a_flood_of_severe_events_leaves_room_for_others() -> None:
    log = EventLog(keep=100)
    for number in range(300):
        log.record("tool_execution_failed", "key:alice", severity="low")
        log.record("tool_execution_failed", f"key:{number}", severity="high")
    assert {event["severity"] for event in log.recent(100)} == {"low", "high"}


@pytest.mark.anyio
async def test_the_count_is_written_even_if_nothing_else_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PERIOD", 0.05)
    log = EventLog()
    with structlog.testing.capture_logs() as lines:
        for _ in range(30):
            log.record("http_error", "mallory")
        with anyio.fail_after(5):
            while len(lines) < 11:  # noqa: ASYNC110  (a timer of the log ends it)
                await anyio.sleep(0.01)
    assert lines[-1]["details"]["count"] == 20


def test_the_line_of_a_flood_is_not_one_of_the_request_that_ends_it(request_: request_context.RequestContext) -> None:
    log = EventLog()
    with structlog.testing.capture_logs(processors=[_add_origin]) as lines:
        for _ in range(12):
            log.record("http_error", "mallory")
        log.flush()
    assert "request_id" not in lines[-1]
