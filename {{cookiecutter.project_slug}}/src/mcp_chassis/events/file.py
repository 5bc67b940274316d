"""The last events in a file, so that a restart does not lose them.

SQLite lets several processes write it together, and a process that is killed leaves it whole. It holds as many events
as the ring in memory and forgets them by the same rule. Writing never waits longer than 20 ms and never raises: where
the file cannot be written, one log line says so, and events are in memory only.
"""

import json
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import structlog

from ..limits.client_address import client_key
from .log import KEEP, SecurityEvent, severity_to_cut

_SCHEMA = """
PRAGMA journal_mode = TRUNCATE;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, severity TEXT, caller TEXT, event TEXT);
CREATE INDEX IF NOT EXISTS callers ON events (severity, caller);
"""
_FORGET = """
DELETE FROM events WHERE number = (SELECT min(number) FROM events WHERE severity = :severity AND caller = (
    SELECT caller FROM events WHERE severity = :severity GROUP BY caller ORDER BY count(*) DESC, min(number) LIMIT 1))
"""
_START_SECONDS, _BUSY_MILLISECONDS = 5, 20
_MAX_WAITING = 100  # events, while another process writes

log = structlog.get_logger("log")


class EventFile:
    """A file of events.

    Args:
        path: made if it is missing, readable for its owner only.
        keep: how many events it holds.
    """

    def __init__(self, path: Path, *, keep: int = KEEP) -> None:
        self._path, self._keep = path, keep
        self._waiting: deque[SecurityEvent] = deque(maxlen=_MAX_WAITING)
        self._lock = threading.Lock()  # a connection is of one thread at a time
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            os.close(descriptor)
            if os.name == "posix":
                path.chmod(0o600)
            self._database = sqlite3.connect(path, timeout=_START_SECONDS, check_same_thread=False)
            self._database.executescript(_SCHEMA)
            self._database.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def events(self) -> list[SecurityEvent]:
        """Return the events that it holds, the oldest first."""
        if self._database is None:
            return []
        try:
            with closing(self._database.execute("SELECT event FROM events ORDER BY number")) as rows:
                return [SecurityEvent(**json.loads(text)) for (text,) in rows]
        except (sqlite3.Error, ValueError, TypeError) as error:
            self._give_up(error)
            return []

    def add(self, event: SecurityEvent) -> None:
        """Write an event, with those that had to wait for another process."""
        with self._lock:
            if self._database is None:
                return
            self._waiting.append(event)
            try:
                with self._database:
                    self._database.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?)", _rows(self._waiting))
                    self._forget(self._database)
                self._waiting.clear()
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                    self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _forget(self, database: sqlite3.Connection) -> None:
        sizes = dict(database.execute("SELECT severity, count(*) FROM events GROUP BY severity").fetchall())
        while sum(sizes.values()) > self._keep:
            severity = severity_to_cut(sizes, self._keep)
            database.execute(_FORGET, {"severity": severity})
            sizes[severity] -= 1

    def _give_up(self, error: Exception) -> None:
        """Close it and say so. The reason is the system's, or SQLite's; neither holds a text of a client."""
        reason = error.strerror if isinstance(error, OSError) else str(error)
        log.warning("events are kept in memory only and end with the process", file=str(self._path), reason=reason,
                    hint="set EVENTS_FILE to a file that can be written, or to none")  # fmt: skip
        if self._database is not None:
            self._database.close()
            self._database = None


def _rows(events: deque[SecurityEvent]) -> Iterator[tuple[str, str, str]]:
    return ((event.severity, client_key(event.identifier), json.dumps(asdict(event))) for event in events)
