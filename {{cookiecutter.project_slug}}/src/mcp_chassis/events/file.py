"""The last events in a file, so that a restart does not lose them.

SQLite lets several processes write it together, and a process that is killed leaves it whole. It holds as many events
as the ring in memory and forgets them by the same rule. The event loop only puts an event into a queue; a thread
writes. Where the file cannot be written, one log line says so, and events are in memory only.
"""

import errno
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from ..limits.client_address import client_key
from .log import KEEP, SecurityEvent, severity_to_cut

_SCHEMA = """
PRAGMA journal_mode = TRUNCATE;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, severity TEXT, caller TEXT, event TEXT);
CREATE INDEX IF NOT EXISTS callers ON events (severity, caller);
"""
_SHORTEN = "DELETE FROM events WHERE number NOT IN (SELECT number FROM events ORDER BY number DESC LIMIT :keep)"
_FORGET = """
DELETE FROM events WHERE number = (SELECT min(number) FROM events WHERE severity = :severity AND caller = (
    SELECT caller FROM events WHERE severity = :severity GROUP BY caller ORDER BY count(*) DESC, min(number) LIMIT 1))
"""
_START_SECONDS = 5.0  # that a start waits for another process
_BUSY_SECONDS = 86_400  # that the thread waits for another process
_STOP_SECONDS = 5.0  # that a stop waits for the rest to be written
_MAX_WAITING = 1000  # events; more are in memory only
_BATCH = 100  # events of one transaction

_EVENT = TypeAdapter(SecurityEvent)  # whose errors are ValueErrors

log = structlog.get_logger("log")


class EventFile:
    """A file of events.

    Args:
        path: made if it is missing, readable for its owner only.
        keep: how many events it holds.
    """

    def __init__(self, path: Path, *, keep: int = KEEP) -> None:
        self._path, self._keep = path, keep
        self._waiting: queue.Queue[SecurityEvent | None] = queue.Queue(_MAX_WAITING)
        self._has_overrun = False
        self._thread = threading.Thread(target=self._run, name="event-file", daemon=True)
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            links = os.fstat(descriptor).st_nlink
            os.close(descriptor)
            if links > 1:
                raise OSError(errno.EMLINK, "it has another name, a hard link")
            if os.name == "posix":
                path.chmod(0o600)
            self._database = sqlite3.connect(path, timeout=_START_SECONDS, check_same_thread=False)
            self._database.executescript(_SCHEMA)
            [count] = self._database.execute("SELECT count(*) FROM events").fetchone()
            if count > keep:  # which another program has written: one by one they would be slow to forget
                with self._database:
                    self._database.execute(_SHORTEN, {"keep": keep})
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    @property
    def path(self) -> Path | None:
        """Where it is; None if it cannot be used."""
        return self._path if self._database is not None else None

    def events(self) -> list[SecurityEvent]:
        """Return the events that it holds, the oldest first. Only before it has taken one: then its thread reads."""
        if self._database is None:
            return []
        try:
            with closing(self._database.execute("SELECT event FROM events ORDER BY number")) as rows:
                return [_EVENT.validate_json(text, strict=True) for (text,) in rows]
        except (sqlite3.Error, ValueError) as error:
            self._give_up(error)
            return []

    def add(self, event: SecurityEvent) -> None:
        """Take an event to write. Never waits and never raises."""
        if self._database is None:
            return
        if self._thread.ident is None:
            self._thread.start()
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            if not self._has_overrun:
                self._has_overrun = True
                log.warning(
                    "events come faster than their file is written: some are in memory only", file=str(self._path)
                )

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        if self._thread.ident is None:
            self._close()
            return
        with suppress(queue.Full):  # the disk hangs
            self._waiting.put(None, timeout=_STOP_SECONDS)
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        batch: list[SecurityEvent | None] = []
        while self._database is not None and None not in batch:
            batch = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(batch) < _BATCH:
                    batch.append(self._waiting.get_nowait())
            self._write(self._database, [event for event in batch if event is not None])
        self._close()

    def _write(self, database: sqlite3.Connection, events: Sequence[SecurityEvent]) -> None:
        rows = [(event.severity, client_key(event.identifier), json.dumps(asdict(event))) for event in events]
        try:
            database.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
            with database:
                database.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?)", rows)
                sizes = dict(database.execute("SELECT severity, count(*) FROM events GROUP BY severity").fetchall())
                while sum(sizes.values()) > self._keep:
                    severity = severity_to_cut(sizes, self._keep)
                    database.execute(_FORGET, {"severity": severity})
                    sizes[severity] -= 1
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Close it and say so. The reason is the system's, or SQLite's; neither holds a text of a client."""
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, ValidationError):
            reason = "it holds something else than events"
        hint = "set EVENTS_FILE to a file that can be written, or to none"
        said = "events are kept in memory only and end with the process"
        log.warning(said, file=str(self._path), reason=reason, hint=hint)
        self._close()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
