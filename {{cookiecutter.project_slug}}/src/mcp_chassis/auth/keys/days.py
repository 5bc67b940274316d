"""What a running server does about its keys: it notes the day on which each was last used, and reminds of their ends.

The days are in the file of the security events, which all processes of a machine write. The keys may lie elsewhere, and
be read-only. Where that file cannot be written, days are in memory only, and `keys list` does not know them.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ...events.log import EventLog
from .records import SOON
from .store import KeySource

_WRITE_SECONDS = 60.0
_TABLE = "CREATE TABLE IF NOT EXISTS key_days (name TEXT PRIMARY KEY, day TEXT NOT NULL)"
_NOTE = """
INSERT INTO key_days VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET day = excluded.day WHERE day < excluded.day
"""
_REMINDER = "reminder:"


@dataclass
class KeyDays:
    """Notes and reminds while a server runs.

    Args:
        keys: whose use is noted.
        events: where reminders go.
        file: of the security events; None to keep days in memory.
    """

    keys: KeySource
    events: EventLog
    file: Path | None
    _noted: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work once a minute while the block runs, and at its end: no request waits for a file."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.to_thread(self._note, dict(self.keys.used))

    async def _run(self) -> None:
        while True:
            now = datetime.now(UTC)
            ending = {
                record.id: record
                for record in self.keys.records().values()
                if record.state(now) == "valid" and record.expires is not None and record.expires - now < SOON
            }
            day = now.date().isoformat()
            reminders = {f"{_REMINDER}{key_id}": day for key_id in ending}
            for name in await asyncio.to_thread(self._note, self.keys.used | reminders):
                if name in reminders:
                    record = ending[name.removeprefix(_REMINDER)]
                    self.events.record(
                        "key_expires",
                        f"key:{record.id}",
                        key_name=record.name,
                        expires=str(record.expires),
                        hint=f"run: keys rotate {record.id}",
                    )
            await asyncio.sleep(_WRITE_SECONDS)

    def _note(self, days: Mapping[str, str]) -> list[str]:
        """Note days by their names, and return the names whose day neither this process nor another had noted."""
        new = [name for name, day in days.items() if self._noted.get(name) != day]
        self._noted.update(days)
        if self.file is None or not new:
            return new
        try:
            with closing(sqlite3.connect(self.file)) as database, database:
                database.execute(_TABLE)
                return [name for name in new if database.execute(_NOTE, (name, days[name])).rowcount]
        except sqlite3.Error:  # the event log has said so
            return new


def days_of_use(file: Path | None) -> dict[str, str] | None:
    """Return the day on which each key was last used, by id; None if no server has noted any."""
    if file is None or not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return {str(name): str(day) for name, day in database.execute("SELECT name, day FROM key_days")}
    except sqlite3.Error:
        return None
