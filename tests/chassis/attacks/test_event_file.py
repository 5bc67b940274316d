"""Making a server forget what was done: by killing it, by floods, or by what it finds in the place of its file."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mcp_chassis.events.file import EventFile
from mcp_chassis.events.log import SecurityEvent
from mcp_chassis.parts import Parts
from mcp_chassis.settings import load_settings

from ..support.running import environment, new_secret, server_process, wait_until

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


def event(number: int = 0, identifier: str = "192.0.2.7", severity: Any = "medium", **details: Any) -> SecurityEvent:
    return SecurityEvent(f"2026-01-01T00:00:00.{number:06}", "http_error", identifier, details, severity)


def rows(path: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [json.loads(text) for (text,) in database.execute("SELECT event FROM events ORDER BY number")]


def test_events_outlive_a_server_that_is_killed(tmp_path: Path) -> None:
    for place in ("first", "second"):
        with server_process(tmp_path) as server:  # which kills it at the end
            found = [one["details"]["path"] for one in server.running.events()]
            server.running.get(f"/{place}", headers=server.running.credentials)
            wait_until(lambda: f"/{place}" in str(rows(tmp_path / "var" / "events.db")))  # noqa: B023
            assert "in memory only" not in server.written()
    assert found == ["/first"], "what the second server shows from the start"
    assert [one["details"]["path"] for one in rows(tmp_path / "var" / "events.db")] == ["/first", "/second"]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "var" / "events.db").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700


def test_no_secret_and_no_control_character_is_in_the_file(tmp_path: Path) -> None:
    with server_process(tmp_path) as server:
        key = server.running.key
        for path in (f"/{key}", f"/%1b[2J%0aforged{key}", f"/{key[:20]}", "/%1b[2J%0aforged"):
            server.running.get(path, headers=server.running.credentials)
        wait_until(lambda: len(rows(tmp_path / "var" / "events.db")) >= 4)
    data = (tmp_path / "var" / "events.db").read_bytes()
    assert key[4:16].encode() not in data
    found = [str(value) for one in rows(tmp_path / "var" / "events.db") for value in one["details"].values()]
    assert len(found) > 8
    assert all(map(str.isprintable, found))


def test_a_flood_displaces_no_events_of_others_and_the_file_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    kept = EventFile(path, keep=100)
    others = [event(number, f"198.51.100.{number}", severity) for number, severity in enumerate(("high", "medium") * 5)]
    for one in others:
        kept.add(one)
    sizes = []
    for number in range(1000):
        kept.add(event(100 + number, "192.0.2.7", "medium", text="x" * 200))
        if number % 250 == 249:
            kept.close()
            sizes.append(path.stat().st_size)
            kept = EventFile(path, keep=100)
    found = kept.events()
    kept.close()
    assert len(found) == 100
    assert found[:10] == others
    assert found[-1].timestamp.endswith("1099")
    assert sizes[-1] <= sizes[0] + 8192


WRITER = """
import sys
from pathlib import Path
from mcp_chassis.events.file import EventFile
from mcp_chassis.events.log import SecurityEvent

kept = EventFile(Path(sys.argv[1]))
for number in range(100):
    kept.add(SecurityEvent("t", "http_error", sys.argv[2], {"number": number}, "medium"))
kept.close()
"""


def test_several_processes_lose_and_break_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [
        subprocess.Popen([*command, name], env=environment(), stderr=subprocess.PIPE) for name in ("a", "b", "c")
    ]
    assert [(writer.communicate(timeout=120)[1], writer.returncode) for writer in writers] == [(b"", 0)] * 3
    found = rows(path)
    for name in ("a", "b", "c"):
        numbers = [one["details"]["number"] for one in found if one["identifier"] == name]
        assert numbers == list(range(100))


def test_no_event_waits_for_another_process_that_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    kept = EventFile(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.perf_counter()
        for number in range(100):
            kept.add(event(number))
        assert time.perf_counter() - started < 0.5, "SQLite waited at least 20 ms for each"
        other.execute("ROLLBACK")
    kept.close()
    assert len(rows(path)) == 100


def test_what_the_queue_cannot_hold_is_not_written_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("mcp_chassis.events.file.log.warning", lambda text, **_: said.append(text), raising=False)
    path = tmp_path / "events.db"
    kept = EventFile(path, keep=3000)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(2000):
            kept.add(event(number))
        other.execute("ROLLBACK")
    kept.close()
    assert len(said) == 1
    assert "some are in memory only" in said[0]
    assert 1000 <= len(rows(path)) < 2000


@POSIX
def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "events.db").symlink_to(elsewhere)
    kept = EventFile(tmp_path / "events.db")
    kept.add(event())
    assert not elsewhere.exists()
    assert kept.events() == []


@POSIX
def test_another_name_of_a_file_is_not_written(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    (tmp_path / "events.db").hardlink_to(elsewhere)
    kept = EventFile(tmp_path / "events.db")
    kept.add(event())
    kept.close()
    assert elsewhere.read_bytes() == b""


def test_of_an_overfull_file_the_last_events_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    EventFile(path).close()
    texts = [("high", "x", json.dumps(asdict(event(number)))) for number in range(500)]
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?)", texts)
    kept = EventFile(path, keep=100)
    assert [one.timestamp for one in kept.events()] == [event(number).timestamp for number in range(400, 500)]
    kept.close()


STRANGE = {
    "a list": "[]",
    "types": json.dumps({**asdict(event()), "identifier": 7, "details": []}),
    "a severity": json.dumps({**asdict(event()), "severity": "x"}),
    "depth": "[" * 200_000,
}


@pytest.mark.parametrize("obstacle", ["no directory", "a directory", "no database", "a strange one", *STRANGE])
def test_where_it_cannot_be_kept_one_line_says_so_and_nothing_fails(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "mcp_chassis.events.file.log.warning", lambda text, **facts: said.append({"text": text, **facts}), raising=False
    )
    path = tmp_path / "var" / "events.db"
    if obstacle == "no directory":
        path.parent.write_text("a file")
    elif obstacle == "a directory":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
    if obstacle == "no database":
        path.write_bytes(b"not a database" * 1000)
    if obstacle == "a strange one":
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE events (something)")
    if obstacle in STRANGE:
        EventFile(path).close()
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("INSERT INTO events VALUES (NULL, 'high', 'x', ?)", (STRANGE[obstacle],))
    kept = EventFile(path)
    assert kept.events() == []
    for _ in range(3):
        kept.add(event())
    (line,) = said
    assert line["text"] == "events are kept in memory only and end with the process"
    assert line["file"] == str(path)
    assert "EVENTS_FILE" in line["hint"]


@pytest.mark.parametrize(("transport", "events_file"), [("stdio", "events.db"), ("http", "none")])
def test_no_file_is_made_where_none_is_wanted(
    transport: Any, events_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server on stdio runs in the directory of its client, which belongs to another project."""
    monkeypatch.chdir(tmp_path)
    settings = load_settings(_env_file=None, api_key=f"mcp_{new_secret()}", events_file=events_file)
    parts = Parts(settings=settings, name="x", version="1", transport=transport)
    parts.events.record("http_error")
    assert list(tmp_path.iterdir()) == []
