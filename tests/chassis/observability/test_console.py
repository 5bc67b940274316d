"""The log on a terminal: a call is one line that fits, its details are there on demand."""

from pathlib import Path

import pytest

from mcp_chassis.events.console import console_line

from ..support.running import server_process, wait_until

CALL = {
    "event": "tool_call", "logger": "audit", "level": "info", "timestamp": "2026-11-28T12:34:56.789Z",
    "principal": "key:default", "tool": "hello_world", "outcome": "ok", "arguments": {"name": 5}, "duration_ms": 3.21,
    "request_id": "0123456789abcdef",
}  # fmt: skip


def line(**changes: object) -> str:
    return console_line(None, "", CALL | changes, colors=False)


def test_a_call_is_one_aligned_line() -> None:
    words = ("12:34:56", "INFO ", "tool    ", f"{'hello_world':28}", f"{'ok':10}", "     3.2 ms", f"{'key:default':24}")
    assert line() == " ".join((*words, "01234567"))
    long = line(tool="t" * 128, principal="p" * 200, outcome="o" * 20, duration_ms=123_456.78, request_id="r" * 64)
    assert len(long) <= 110
    assert line().index("ms ") == long.index("ms ")


def test_an_event_names_its_cause_and_an_error_its_traceback() -> None:
    details = {"reason": "invalid key", "client": "192.0.2.7", "request_id": "x"}
    event = line(logger="security", event="security_event", level="warning", kind="authentication_failed",
                 severity="high", identifier="192.0.2.7", details=details)  # fmt: skip
    assert event.startswith("12:34:56 WARN  event    authentication_failed        high")
    assert event.endswith('reason="invalid key"')
    assert line(event="failed", logger="error", exception="    | RuntimeError").endswith("\n    | RuntimeError")


@pytest.mark.parametrize("evil", ["a\nb", "a\x1b[2Jb", "a\u2028b", "a\u202eb"])
@pytest.mark.parametrize("fact", ["tool", "principal", "outcome", "request_id", "event", "logger", "duration_ms"])
def test_no_value_ends_or_draws_on_the_line(evil: str, fact: str) -> None:
    changes = {"logger": "library"} if fact == "duration_ms" else {}
    assert line(**changes | {fact: evil}).isprintable()


@pytest.mark.parametrize("log_format", ["console", "json", "ecs"])
@pytest.mark.parametrize(("level", "wanted"), [("INFO", 1), ("DEBUG", 2)])
def test_one_call_leaves_one_line_and_its_details_on_demand(
    level: str, wanted: int, log_format: str, tmp_path: Path
) -> None:
    with server_process(tmp_path, log_format=log_format, log_level=level) as server:
        before = len(server.written().splitlines())
        server.running.call("hello_world", {"name": "World"})
        server.running.get("/nothing")
        wait_until(lambda: "authentication_failed" in server.written())
        lines = [text for text in server.written().splitlines()[before:] if "key:default" in text]
    assert len(lines) == wanted
    assert any("hello_world" in text and "ok" in text for text in lines)
    assert ("argument_bytes" in "".join(lines)) is (level == "DEBUG" or log_format != "console")
    if level == "INFO" and log_format == "console":
        assert len(lines[0]) <= 110
