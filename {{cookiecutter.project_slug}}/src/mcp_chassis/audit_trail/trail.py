"""The audit trail: a file of JSON lines with the field names of the Elastic Common Schema, sealed as a chain.

The event loop only puts a record into a queue; a thread writes. Several processes share one file: each batch is written
under a lock, and continues from the last line in the file. No failure of the file stops the server.
"""

import os
import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hmac import digest
from io import FileIO
from pathlib import Path
from typing import Any

import structlog

from ..counters import count_audit_lines
from ..events import ecs
from ..locks import locked
from .chain import Head, derived_key, head_of, sealed

_MAX_TAIL_BYTES = 131_072  # more than the longest line
_MAX_WAITING = 10_000  # records; more are lost, and counted
_BATCH = 500  # records
_STOP_SECONDS = 5.0  # that a stop waits for the rest to be written
_HEAD_SECONDS = 60.0  # between two heads in the log
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_LINE_START = b'{"@timestamp":"'

Record = dict[str, Any]

log = structlog.get_logger("audit_trail")


class AuditTrail:
    """Args:
    path: the file, readable by its owner only. It may be renamed at any time: a new one is begun, and continues it.
    secret: keys the seals, and the hashes of arguments.
    service: the server's name.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it holds something else.
    """

    def __init__(self, path: Path, secret: str, *, service: str = "") -> None:
        self._path = path
        self._key = derived_key(secret, "audit chain")
        self._value_key = derived_key(secret, "audit values")
        self._common: Record = {
            "ecs.version": ecs.VERSION,
            "event.kind": "event",
            "service.name": service,
            "event.dataset": f"{service}.audit",
            "process.pid": os.getpid(),
        }
        self._waiting: queue.Queue[Record | None] = queue.Queue(_MAX_WAITING)
        self._lost = 0
        self._counting = threading.Lock()  # the event loop counts, too
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="audit-trail", daemon=True)
        self._file = _open(path)
        try:
            self._head = self._read_head()
        except BaseException:
            self._file.close()
            raise
        self._logged_head, self._head_logged_at = self._head, -_HEAD_SECONDS

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what is waiting, and the head to the log."""
        if self._thread.ident is not None:
            with suppress(queue.Full):  # the disk hangs
                self._waiting.put(None, timeout=_STOP_SECONDS)
            self._thread.join(_STOP_SECONDS)
        if not self._thread.is_alive():
            self._file.close()

    def put(self, record: Record) -> None:
        """Take one record, with its time. Never waits and never raises."""
        record["@timestamp"] = time.time()
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._count_lost(1, "it is not written as fast as it grows")

    def hashes(self, values: Mapping[str, bytes | None]) -> list[Record]:
        """Describe arguments, given as JSON: name, size, and a keyed hash: without the key no value can be tried."""
        return [
            {"name": name}
            if value is None
            else {"name": name, "size": len(value), "hash": digest(self._value_key, value, "sha256").hex()[:32]}
            for name, value in values.items()
        ]

    def problems(self) -> list[str]:
        """Return what an operator should repair now."""
        return [self._problem] if self._problem is not None else []

    def _run(self) -> None:
        last = False
        while not last:
            batch = self._batch()
            last = None in batch
            records = [record for record in batch if record is not None]
            if records:
                self._write(records)
            self._log_head(now=last)

    def _batch(self) -> list[Record | None]:
        batch: list[Record | None] = []
        with suppress(queue.Empty):
            batch.append(self._waiting.get(timeout=_HEAD_SECONDS))
            while len(batch) < _BATCH:
                batch.append(self._waiting.get_nowait())
        return batch

    def _write(self, records: list[Record]) -> None:
        try:
            if self._renamed():
                self._head = _later(self._head, self._read_head())  # another process may have written to it since
                self._file.close()
                self._file = _open(self._path)
            with locked(self._file.fileno()):
                self._append(records)
        except (OSError, ValueError) as error:
            self._count_lost(len(records), str(getattr(error, "strerror", error)))
            return
        count_audit_lines(len(records), written=True)
        if self._problem is not None:
            self._problem = None
            log.warning("the audit trail is written again")

    def _append(self, records: list[Record]) -> None:
        last, end, size = _tail(self._file)
        if 0 < last.sequence < self._head.sequence:
            log.error("lines of the audit trail are gone", last=last.sequence, written=self._head.sequence)
        head = _later(last, self._head)
        notes: list[Record] = []
        if end < size:  # a write was cut off: by a full disk, or with the process
            log.warning("a torn last line of the audit trail is removed", bytes=size - end)
            self._file.truncate(end)
            notes.append(_note("trail_repaired", removed=size - end))
        if lost := self._lost:
            notes.append(_note("records_lost", lost=lost))
        text = bytearray()
        for record in (*notes, *records):
            when = datetime.fromtimestamp(record.pop("@timestamp"), UTC).isoformat(timespec="milliseconds")
            line, head = sealed(self._key, head, {"@timestamp": when, **self._common, **record})
            text += line
        try:
            if self._file.write(text) != len(text):
                raise OSError(None, "No space left on device")
        except OSError:
            self._file.truncate(end)  # no half line, if that is still possible
            raise
        self._head = head
        with self._counting:
            self._lost -= lost

    def _read_head(self) -> Head:
        with locked(self._file.fileno()):
            return _tail(self._file)[0]

    def _renamed(self) -> bool:
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return True

    def _count_lost(self, number: int, cause: str) -> None:
        with self._counting:
            self._lost += number
        count_audit_lines(number, written=False)
        if self._problem is None:
            self._problem = f"The audit trail is not written, its records are lost: {cause}."
            log.error("the audit trail is not written: records are lost", cause=cause)

    def _log_head(self, *, now: bool) -> None:
        """A tail that was cut off shows only against a head that is kept elsewhere: where the log goes."""
        due = now or time.monotonic() - self._head_logged_at >= _HEAD_SECONDS
        if due and self._head != self._logged_head:
            self._head_logged_at, self._logged_head = time.monotonic(), self._head
            log.info("audit trail head", head=str(self._head))


def _later(one: Head, other: Head) -> Head:
    return max(one, other, key=lambda head: head.sequence)


def _note(action: str, **numbers: int) -> Record:
    facts = {f"mcp.audit.{name}": number for name, number in numbers.items()}
    return {"@timestamp": time.time(), "event.action": action, "event.outcome": "failure", **facts}


def _open(path: Path) -> FileIO:
    descriptor = os.open(path, _FLAGS, 0o600)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, 0o600)
    return FileIO(descriptor, "a+")


def _tail(file: FileIO) -> tuple[Head, int, int]:
    """Return the head of the last good line, where the last whole line ends, and the size of the file.

    Raises:
        ValueError: if there is something, and it is no trail.
    """
    size = file.seek(0, os.SEEK_END)
    begin = max(0, size - _MAX_TAIL_BYTES)
    file.seek(begin)
    *whole, torn = file.read(size - begin).split(b"\n")
    heads = (head for line in reversed(whole) if (head := head_of(line + b"\n")) is not None)
    head = next(heads, None)
    if (whole and head is None) or not torn.startswith(_LINE_START[: len(torn)]):
        raise ValueError("it holds something else than an audit trail")
    return head or Head(), size - len(torn), size
