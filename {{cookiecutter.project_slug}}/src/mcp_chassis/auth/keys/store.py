"""Where API keys come from: `API_KEY`, the setting `KEYS`, and the keys file.

The command line changes the file under a lock; running servers follow it without a restart.
"""

import os
import sys
import tempfile
import time
from collections import ChainMap
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ...locks import locked
from ...rooms import needs_key
from ...settings import Settings, SettingsError
from ..verifier import Verifier
from .records import KeyRecord, KeysError, default_record, format_records, parse_records
from .verifier import NO_KEY, KeyVerifier

log = structlog.stdlib.get_logger("auth")

_CHECK_SECONDS = 1.0
_LOCK_SECONDS = 10.0


class KeySource:
    """The keys that are valid now, as the settings say.

    Raises:
        SettingsError: if they cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        self._default = default_record(key) if key is not None else NO_KEY
        self._fixed = fixed_keys(settings)
        self.used: dict[str, str] = {}
        """The day on which this process was last shown each key, by its id."""
        try:
            self._file = KeysFile(settings.keys_file) if settings.keys_file is not None else None
        except KeysError as error:
            sentence = f"KEYS_FILE: {settings.keys_file} cannot be used: {error}. Repair or restore it."
            raise SettingsError([sentence]) from None

    def records(self) -> Mapping[str, KeyRecord]:
        """Return the keys of the file and of `KEYS`, by id."""
        # A key that is revoked in the file stays revoked, whatever an older copy in the settings says.
        return self._fixed if self._file is None else ChainMap(self._file.records(), self._fixed)

    def revoked(self) -> list[str]:
        """Return the ids of revoked keys."""
        return [record.id for record in self.records().values() if record.revoked is not None]

    def problems(self) -> list[str]:
        """Return what has broken since the start."""
        return list(filter(None, [self._file.problem()])) if self._file is not None else []

    def verifiers(self, revoked: Container[str]) -> list[Verifier]:
        """Return what judges keys. Even without any key: what looks like one is no other kind of token.

        Args:
            revoked: ids of keys that were revoked elsewhere.
        """
        return [KeyVerifier(self.records, revoked, self.used, default=self._default)]


def usable_keys(settings: Settings) -> KeySource:
    """Return the keys of the server.

    Raises:
        SettingsError: if they cannot be read, or callers need a key and there is none: every call would be refused.
    """
    keys, now = KeySource(settings), datetime.now(UTC)
    is_any = settings.api_key is not None or any(record.state(now) == "valid" for record in keys.records().values())
    if settings.enable_auth and needs_key(settings) and not is_any:
        text = (
            "API_KEY: is missing while ENABLE_AUTH is true, and KEYS_FILE and KEYS hold no key that is valid "
            "now. Run `python scripts/create_env.py`, or `keys create --name ci --scopes notes:read`."
        )
        raise SettingsError([text])
    return keys


def fixed_keys(settings: Settings) -> dict[str, KeyRecord]:
    """Return the keys in the setting `KEYS`, by id.

    Raises:
        SettingsError: if it cannot be read.
    """
    try:
        return parse_records(settings.keys.get_secret_value()) if settings.keys is not None else {}
    except KeysError as error:
        raise SettingsError([f"KEYS: cannot be used: {error}. It holds the text of a keys file."]) from None


class KeysFile:
    """A server's view of the file. A file that does not exist holds no keys: deleting it revokes them all.

    Raises:
        KeysError: if the file is broken from the start. Later on, the last good state stays in force.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature = _signature(path)
        self._records = read_keys(path)
        self._checked_at = time.monotonic()
        self._problem: str | None = None

    def records(self) -> dict[str, KeyRecord]:
        """Return the keys by id, at most a second old."""
        now = time.monotonic()
        if now - self._checked_at >= _CHECK_SECONDS:
            self._checked_at = now
            if (signature := _signature(self._path)) != self._signature:
                self._signature = signature
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
            self._signature = ()  # read it again: a failure that passes must not keep a revoked key valid
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
        if path.exists() and not path.is_file():  # reading a FIFO would wait without limit
            raise KeysError("it is not a regular file")
        return parse_records(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise KeysError("it is not UTF-8") from None
    except OSError as error:
        raise KeysError(f"it cannot be read ({error.strerror})") from None


@contextmanager
def changing_keys(path: Path) -> Iterator[dict[str, KeyRecord]]:
    """Yield the keys for changing, and write them if the block succeeds. Other processes wait meanwhile.

    Raises:
        KeysError: if the file is broken, cannot be written, or stays locked.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock_beside(target):
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
def _lock_beside(path: Path) -> Iterator[None]:
    """Lock a file beside the keys file, which cannot be locked itself: every write replaces it."""
    with ExitStack() as stack:
        descriptor = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        stack.callback(os.close, descriptor)
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                stack.enter_context(locked(descriptor, wait=False))
                break
            except OSError:
                if time.monotonic() > deadline:
                    name = f"{path.name}.lock"
                    message = f"another process is changing it: wait, or end the process that holds {name}"
                    raise KeysError(message) from None
            time.sleep(0.02)
        yield


def _replace(path: Path, text: str) -> None:
    """Replace `path` in one step with a file that only its owner can read: readers see the old text or the new one."""
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
