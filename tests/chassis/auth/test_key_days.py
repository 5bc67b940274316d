"""The last use of keys, and reminders of their ends: one write and one event a day, whatever is called."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_chassis.auth.keys import days
from mcp_chassis.auth.keys.days import days_of_use
from mcp_chassis.auth.keys.format import id_of
from mcp_chassis.auth.keys.verifier import KeyVerifier
from mcp_chassis.auth.verifier import InvalidCredential

from ..support.keys import add_key, put, record_of
from ..support.running import RunningServer, running_server, wait_until

TODAY = str(datetime.now(UTC).date())


def status(server: RunningServer, key: str) -> int:
    return server.get("/mcp", headers={"Authorization": f"Bearer {key}"}).status_code


def test_the_day_of_use_is_kept_by_two_servers_and_over_a_restart(tmp_path: Path) -> None:
    keys, file = tmp_path / "keys.json", tmp_path / "events.db"
    used, other, idle = add_key(keys), add_key(keys), add_key(keys)
    with (
        running_server(keys_file=keys, events_file=file) as one,
        running_server(keys_file=keys, events_file=file) as two,
    ):
        assert [status(one, used), status(two, other)] == [405, 405]
    found = days_of_use(file)
    assert found is not None
    assert (found[id_of(used)], found[id_of(other)], found.get(id_of(idle))) == (TODAY, TODAY, None)
    with running_server(keys_file=keys, events_file=file):
        pass
    assert (days_of_use(file) or {})[id_of(used)] == TODAY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.db", "keys.json", "keys.json.lock"]


def test_a_call_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[object]()
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def counted(*given: Any, **named: Any) -> sqlite3.Connection:
        written.append(given)
        return connect(*given, **named)

    monkeypatch.setattr(sqlite3, "connect", counted)
    keys = tmp_path / "keys.json"
    key = add_key(keys)
    with running_server(keys_file=keys, events_file=tmp_path / "events.db") as server:
        before = len(written)
        assert {status(server, key) for _ in range(20)} == {405}
        assert len(written) == before


@pytest.mark.anyio
async def test_a_refused_key_was_not_used(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json")
    used = dict[str, str]()
    for changes in ({"revoked": datetime.now(UTC)}, {"expires": datetime.now(UTC)}):
        record = record_of(key, **changes)
        with pytest.raises(InvalidCredential):
            await KeyVerifier({record.id: record}.copy, used=used).verify(key)
    assert used == {}


def test_an_end_is_an_event_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "_WRITE_SECONDS", 0.05)
    keys, file, now = tmp_path / "keys.json", tmp_path / "events.db", datetime.now(UTC)
    soon, later, revoked = (
        add_key(keys, name=name, expires=now + timedelta(days=90)) for name in ("soon", "later", "no")
    )
    put(keys, record_of(soon, name="soon", expires=now + timedelta(days=13)))
    put(keys, record_of(revoked, name="no", expires=now + timedelta(days=1), revoked=now))
    for _ in range(2):
        with running_server(keys_file=keys, events_file=file) as server:
            wait_until(lambda: bool(server.events("key_expires")))
            (event,) = server.events("key_expires")
            assert event["identifier"] == f"key:{id_of(soon)}"
            assert event["details"]["key_name"] == "soon"
            assert event["details"]["hint"] == f"run: keys rotate {id_of(soon)}"
    assert later


def test_without_a_file_days_are_in_memory_and_events_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "_WRITE_SECONDS", 0.05)
    keys = tmp_path / "keys.json"
    key = add_key(keys, expires=datetime.now(UTC) + timedelta(days=1))
    target = tmp_path / "target"
    (tmp_path / "events.db").symlink_to(target)
    with running_server(keys_file=keys, events_file=tmp_path / "events.db") as server:
        assert status(server, key) == 405
        wait_until(lambda: bool(server.events("key_expires")))
    assert not target.exists(), "a link that the event file refuses is not followed for the days either"
    assert days_of_use(tmp_path / "events.db") is None
