"""`events`: what an operator sees, live, of one server or of a fleet."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mcp_chassis import cli
from secure_mcp_server.server import SERVER

from .support.running import PACKAGE, RunningServer, environment, free_port, running_server, wait_until


def event(number: int, **changes: Any) -> dict[str, Any]:
    """Return an event as a server would tell it."""
    return {
        "timestamp": f"2026-01-01T00:00:{number:02}.000+00:00",
        "event": "http_error",
        "identifier": f"client {number}",
        "details": {"status": 404},
        "severity": "medium",
    } | changes


class Told(BaseHTTPRequestHandler):
    """A server that answers with the events of a test."""

    server: "Telling"

    def do_GET(self) -> None:
        """Tell."""
        self.server.asked.append(self.path)
        status, told = self.server.answer
        body = json.dumps({"events": told, "totalEvents": len(told)}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Telling(HTTPServer):
    """Its address, what it was asked, and what it answers: newest first."""

    def __init__(self, *told: dict[str, Any], status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), Told)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.answer = status, list(told)


@contextmanager
def telling(*told: dict[str, Any], status: int = 200) -> Iterator[Telling]:
    """Run one while the block runs."""
    server = Telling(*told, status=status)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, server: RunningServer, tmp_path: Path) -> None:
    monkeypatch.setenv("API_KEY", server.key)
    monkeypatch.setenv("PORT", str(server.port))
    monkeypatch.chdir(tmp_path)


def test_the_latest_are_printed_oldest_first(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        server.get(f"/nothing-{number}", headers=server.credentials)
    wait_until(lambda: len(server.events("http_error")) >= 6)
    assert cli.run(SERVER, ["events", "--limit", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "path=/nothing-2" in lines[0]
    assert "path=/nothing-5" in lines[-1]
    assert " MEDIUM http_error " in lines[0]
    assert server.key not in "".join(lines)


def test_another_port_and_address_of_this_machine_can_be_named(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.get("/nothing-here", headers=server.credentials)
    monkeypatch.setenv("PORT", str(free_port()))
    assert cli.run(SERVER, ["events"]) == 1
    assert cli.run(SERVER, ["events", "--host", "localhost", "--port", str(server.port)]) == 0
    assert "path=/nothing-here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [1, 2, 3]),
        (["--severity", "high"], [3]),
        (["--severity", "medium"], [2, 3]),
        (["--kind", "http_error"], [1, 2]),
        (["--kind", "http_error", "--severity", "medium"], [2]),
        (["--limit", "1"], [3]),
    ],
)
def test_they_can_be_chosen(options: list[str], expected: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    events = [event(3, event="authentication_failed", severity="high"), event(2), event(1, severity="low")]
    with telling(*events) as server:
        assert cli.run(SERVER, ["events", "--url", server.url, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.partition("client ")[2][0]) for line in lines] == expected


def test_a_fleet_is_one_list_and_an_event_that_all_tell_of_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    with telling(event(3), event(1)) as one, telling(event(3), event(2)) as two:
        assert cli.run(SERVER, ["events", "--url", one.url, "--url", two.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["client 1" in lines[0], "client 2" in lines[1], "client 3" in lines[2]] == [True] * 3
    assert len(lines) == 3
    assert one.url.removeprefix("http://") in lines[0]


HOSTILE = "a\x1b[2K\r\n2026 HIGH forged\u2028\u202e\x9b2J\x07"


def test_no_event_draws_on_the_operators_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A server may be taken over, and its events hold text of attackers in any case."""
    hostile = event(1, event=HOSTILE, identifier=HOSTILE, severity=HOSTILE, timestamp=HOSTILE,
                    details={HOSTILE: HOSTILE, "list": [HOSTILE], "inner": {HOSTILE: 1}})  # fmt: skip
    with telling(hostile, event(2, details=HOSTILE), event(3, severity=None, details=None)) as server:
        assert cli.run(SERVER, ["events", "--url", server.url]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 3
    assert [character for character in out if not character.isprintable()] == ["\n"] * 3


@pytest.mark.parametrize(
    ("terminal", "no_color", "colored"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colours_only_on_a_terminal_that_wants_them(
    terminal: bool, no_color: str, colored: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    with telling(event(1, severity="high"), event(2)) as server:
        cli.run(SERVER, ["events", "--url", server.url])
    assert ("\x1b[31m" in capsys.readouterr().out) is colored


def test_follow_shows_new_events_and_outlives_an_unavailable_server(tmp_path: Path) -> None:
    one, other = free_port(), free_port()
    command = [sys.executable, "-m", PACKAGE, "events", "--follow", "--every", "1"]
    command += [part for port in (one, other) for part in ("--url", f"http://127.0.0.1:{port}")]
    shown = tmp_path / "shown"
    with running_server(port=one) as server, shown.open("wb") as out, (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=out, stderr=said, cwd=tmp_path, env=environment(api_key=server.key))
        try:
            server.get("/first", headers=server.credentials)
            wait_until(lambda: b"path=/first" in shown.read_bytes(), seconds=40)
            server.get("/second", headers=server.credentials)
            wait_until(lambda: b"path=/second" in shown.read_bytes(), seconds=40)
            with running_server(port=other, api_key=server.key) as late:
                late.get("/third", headers=server.credentials)
                wait_until(lambda: b"path=/third" in shown.read_bytes(), seconds=40)
            process.send_signal(2)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
    assert shown.read_bytes().count(b"path=/first") == 1
    notes = (tmp_path / "said").read_text()
    assert notes.count("does not answer") >= 1
    assert "answers again" in notes
    assert "Traceback" not in notes
    assert server.key not in notes


def test_a_flood_is_shown_again_with_its_count_and_what_is_known_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flood(count: int) -> dict[str, Any]:
        return event(0, details={"status": 404, "count": count, "request_id": f"request {count}"})

    counts = iter((12, 12, 20))
    with telling(flood(10), event(1)) as server:

        def sleep(_: float) -> None:
            if (count := next(counts, None)) is None:
                raise KeyboardInterrupt
            server.answer = 200, [flood(count), event(1)]

        monkeypatch.setattr("time.sleep", sleep)
        assert cli.run(SERVER, ["events", "--follow", "--url", server.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("count=")[2].split()[0] for line in lines if "count=" in line] == ["10", "12", "20"]
    assert len(lines) == 4


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_tried_again(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Asking on would look like guessing, and lock out the operator's address."""
    with telling(status=status) as server:
        assert cli.run(SERVER, ["events", "--follow", "--url", server.url]) == 1
        assert len(server.asked) == 1
    assert f"API_KEY is refused ({status})" in capsys.readouterr().err


def test_that_there_is_nothing_to_show_is_said_beside_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    with telling(event(1, severity="low")) as server:
        assert cli.run(SERVER, ["events", "--url", server.url, "--severity", "high"]) == 0
    assert capsys.readouterr() == ("", "No such events.\n")


def test_a_server_that_is_unavailable_or_answers_nonsense_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    unavailable = f"http://127.0.0.1:{free_port()}"
    with telling(status=500) as broken:
        assert cli.run(SERVER, ["events", "--url", unavailable, "--url", broken.url]) == 1
    said = capsys.readouterr().err
    assert (
        f"{unavailable}: does not answer. Is the server running there? --host, --port or --url name another.\n" in said
    )
    assert "Error" not in said, "the name of an exception helps no operator"
    assert f"{broken.url}: does not answer with events (500)" in said


@pytest.mark.parametrize("url", ["http://mcp.example.com", "http://10.0.0.1:8080"])
def test_the_key_is_not_sent_in_the_clear(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(SERVER, ["events", "--url", url]) == 1
    assert "Use https." in capsys.readouterr().err


def test_without_a_key_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ENABLE_AUTH", "false")
    monkeypatch.delenv("API_KEY")
    assert cli.run(SERVER, ["events"]) == 78
    assert "API_KEY: is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--url", "example.com"], ["--limit", "0"], ["--every", "x"], ["--kind", "x"], ["verify", "--head", "x"]],
    ids=repr,
)
def test_a_wrong_option_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(SERVER, ["events", *arguments])
    assert end.value.code == 2
    assert "error: argument" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["events"], ["completion", "bash"], ["tools", "list"]], ids=repr)
def test_a_reader_that_has_seen_enough_is_no_error(words: list[str], server: RunningServer) -> None:
    for number in range(5):
        server.get(f"/nothing-{number}", headers=server.credentials)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", PACKAGE, *words]
    variables = environment(api_key=server.key, port=str(server.port))
    with os.fdopen(writing, "wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, env=variables, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("missing", ["AUDIT_FILE", "AUDIT_KEY"])
def test_verify_says_what_it_needs(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if missing == "AUDIT_KEY":
        (tmp_path / "audit.jsonl").touch()
    arguments = [str(tmp_path / "audit.jsonl")] if missing == "AUDIT_KEY" else []
    assert cli.run(SERVER, ["events", "verify", *arguments]) == 78
    assert f"{missing}: is missing" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUDIT_KEY", "sT4vQ9xL2mZ7bN1kR6wY3hF8dJ5gC0aP")
    assert cli.run(SERVER, ["events", "verify", "missing.jsonl"]) == 1
    assert capsys.readouterr().err == "missing.jsonl: cannot be read: No such file or directory\n"
