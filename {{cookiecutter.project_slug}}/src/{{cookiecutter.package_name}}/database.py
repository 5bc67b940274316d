"""The database of the order desk: one SQLite file. `docs/order-desk.md` has this file for PostgreSQL."""

import sqlite3
import threading
from importlib.resources import files
from pathlib import Path
from typing import Any, LiteralString


class Database:
    """One connection, opened once. Tools run in threads: the lock gives it to one of them at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript(files(__package__).joinpath("schema.sql").read_text("utf-8"))

    def rows(self, tenant: str, statement: LiteralString, *values: object) -> list[dict[str, Any]]:
        """Run one statement for a tenant, in a transaction of its own, and return its rows.

        The first `?` is the tenant, the others are `values`: a statement that does not ask for the tenant fails.
        """
        with self._lock, self._connection:
            return [dict(row) for row in self._connection.execute(statement, (tenant, *values))]

    def close(self) -> None:
        """Close the connection, once no statement runs."""
        with self._lock:
            self._connection.close()
