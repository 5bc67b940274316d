"""The keys file: changed by the command line under a lock, followed by running servers without a restart."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from .records import KeyRecord, KeysError, format_records, parse_records

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

log = structlog.stdlib.get_logger("auth")

_CHECK_EVERY = 1.0  # seconds between two looks at the file
_LOCK_PATIENCE = 10.0  # seconds to wait for another process that changes it


class KeysFile:
    """A server's view of the file.

    Args:
        path: a file that does not exist holds no keys: deleting it revokes them all.

    Raises:
        KeysError: if the file is broken from the start. Later on, the last good state stays in force.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _signature(path)
        self._records = read_keys(path)
        self._looked_at = time.monotonic()
        self._problem: str | None = None

    def records(self) -> dict[str, KeyRecord]:
        """Return the keys by id, at most a second old."""
        now = time.monotonic()
        if now - self._looked_at >= _CHECK_EVERY:
            self._looked_at = now
            if (signature := _signature(self._path)) != self._seen:
                self._seen = signature
                self._reload()
        return self._records

    def problem(self) -> str | None:
        """Return what is wrong with the file now, as a sentence for the operator."""
        self.records()
        return self._problem

    def _reload(self) -> None:
        try:
            self._records = read_keys(self._path)
        except KeysError as error:
            self._seen = ()  # look again: what passes without a change of the file must not keep a revoked key alive
            problem = f"The keys file cannot be used, the keys before the last change stay in force: {error}."
            if problem != self._problem:
                self._problem = problem
                log.error("the keys file cannot be used: its last good state stays in force", cause=str(error))
        else:
            self._problem = None
            log.warning("the keys file has changed", keys=len(self._records))


def read_keys(path: Path) -> dict[str, KeyRecord]:
    """Return the keys in the file, by id.

    Raises:
        KeysError: if there is a file that cannot be used.
    """
    try:
        return parse_records(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise KeysError("it is not UTF-8") from None
    except OSError as error:
        raise KeysError(f"it cannot be read ({error.strerror})") from None


@contextmanager
def changing_keys(path: Path) -> Iterator[dict[str, KeyRecord]]:
    """Lend the keys for changing, and write them when the block ends well. Other processes wait meanwhile.

    Raises:
        KeysError: if the file is broken, cannot be written, or stays locked.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock")):
            records = read_keys(target)
            yield records
            _replace(target, format_records(records.values()))
    except OSError as error:
        raise KeysError(f"it cannot be written ({error.strerror})") from None


def _signature(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file beside the keys file, which cannot be locked itself: every write replaces it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_PATIENCE
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise KeysError(f"another process is changing it: wait, or end the process that holds {path.name}")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)  # unlocks


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _replace(path: Path, text: str) -> None:
    """Write `path` in one step, readable by its owner only: whoever looks sees the old text or the new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
            if sys.platform != "win32" and os.geteuid() == 0 and path.exists():
                owner = path.stat()  # root must not take the file away from the account that the server runs as
                os.fchown(descriptor, owner.st_uid, owner.st_gid)  # by name, that account could put a link there
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
