"""The keys file: written in one step and under a lock, followed without a restart, and never holding a secret."""

import json
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from mcp_chassis.auth.keys import store as key_store
from mcp_chassis.auth.keys.format import id_of
from mcp_chassis.auth.keys.records import KeysError
from mcp_chassis.auth.keys.store import KeysFile, KeySource, changing_keys, read_keys, usable_keys
from mcp_chassis.settings import Settings, SettingsError, load_settings

from ..support.keys import add_key, put, record_of

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
WRITER = """
import sys
from pathlib import Path
from chassis.support.keys import add_key
for number in range(10):
    add_key(Path(sys.argv[1]), name=sys.argv[2])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "keys.json"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the file each time instead of once a second."""
    monkeypatch.setattr(key_store, "_CHECK_SECONDS", 0.0)


def names(keys: KeysFile) -> list[str]:
    return sorted(record.name for record in keys.records().values())


# --- writing ---


def test_no_secret_is_in_the_file(path: Path) -> None:
    key = add_key(path)
    written = path.read_text()
    assert key not in written
    assert key.rpartition("_")[2][:10] not in written
    assert json.loads(written)["keys"][0].keys() == {"id", "name", "scopes", "sha256", "created", "expires"}


@POSIX
def test_only_its_owner_may_read_it_whatever_the_umask_says(path: Path) -> None:
    before = os.umask(0)
    try:
        add_key(path)
        path.chmod(0o666)
        add_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_reader_sees_the_old_keys_or_the_new_ones_and_no_half_file(path: Path) -> None:
    add_key(path)
    done, broken = threading.Event(), list[str]()

    def read() -> None:
        while not done.is_set():
            try:
                if not read_keys(path):
                    broken.append("empty")
            except KeysError as error:
                broken.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(60):
        add_key(path)
    done.set()
    reader.join()
    assert broken == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_key(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeysError, match="No space left"):
        add_key(path)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_processes_that_write_at_the_same_time_lose_nothing(path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], env=environment, cwd=root)
        for name in ("one", "two", "three")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(read_keys(path)) == 30


def test_a_lock_that_is_never_released_is_an_error_and_not_an_endless_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_store, "_LOCK_SECONDS", 0.1)
    with changing_keys(path), pytest.raises(KeysError, match=r"another process .* keys\.json\.lock"):
        add_key(path)


@POSIX
def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    add_key(link)
    assert link.is_symlink()
    assert len(read_keys(path)) == 1


@POSIX
def test_root_gives_away_what_it_wrote_and_not_what_stands_under_that_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is the server's: it could put a link to /etc/shadow in the place of the temporary file."""
    add_key(path)
    owner, given = path.stat(), list[tuple[int, int, int]]()

    def fchown(descriptor: int, user: int, group: int) -> None:
        given.append((os.fstat(descriptor).st_ino, user, group))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", fchown)
    monkeypatch.setattr(os, "chown", Mock(side_effect=AssertionError("by name")))
    add_key(path)
    assert given == [(path.stat().st_ino, owner.st_uid, owner.st_gid)]


# --- following ---


@pytest.mark.usefixtures("at_once")
def test_changes_are_noticed_without_a_restart(path: Path) -> None:
    keys = KeysFile(path)
    assert names(keys) == []
    add_key(path, name="ci")
    assert names(keys) == ["ci"]
    add_key(path, name="web")
    assert names(keys) == ["ci", "web"]


def test_the_file_is_looked_at_once_a_second_and_read_only_if_it_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, reads = Mock(wraps=key_store._signature), Mock(wraps=key_store.read_keys)
    monkeypatch.setattr(key_store, "_signature", looks)
    monkeypatch.setattr(key_store, "read_keys", reads)
    add_key(path)
    reads.reset_mock()
    keys = KeysFile(path)
    for _ in range(1000):
        keys.records()
    assert looks.call_count == 1
    monkeypatch.setattr(key_store, "_CHECK_SECONDS", 0.0)
    for _ in range(10):
        keys.records()
    assert looks.call_count == 11
    assert reads.call_count == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"version": 2, "keys": []}',
        b'{"keys": [{"id": "ci"}]}',
        b'{"keys": [], "more": 1}',
        b'{"keys": 7}',
        b"[" * 5000,
    ],
)
def test_a_broken_file_keeps_the_last_good_keys_and_says_so_but_does_not_start_a_server(
    path: Path, text: bytes
) -> None:
    good = record_of(add_key(path, name="ci"))
    keys = KeysFile(path)
    path.write_bytes(text)
    with capture_logs() as logged:
        assert keys.problem() is not None, "also if no call came meanwhile"
        assert [names(keys) for _ in range(3)] == [["ci"]] * 3
    assert [line["log_level"] for line in logged] == ["error"], "once for every change"
    with pytest.raises(KeysError):
        KeysFile(path)
    path.unlink()
    put(path, good)
    assert names(keys) == ["ci"]
    assert keys.problem() is None


@pytest.mark.usefixtures("at_once")
def test_a_change_that_could_not_be_read_is_read_as_soon_as_it_can(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that fills the table of open files at the right moment must not keep a revoked key valid."""
    record = record_of(add_key(path))
    keys = KeysFile(path)
    put(path, record.model_copy(update={"revoked": record.created}))

    def full(*_: object, **__: object) -> str:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch, capture_logs() as logged:
        patch.setattr(Path, "read_text", full)
        for _ in range(3):
            assert keys.records()[record.id].revoked is None
        assert "Too many open files" in str(keys.problem())
    assert len(logged) == 1
    assert keys.records()[record.id].revoked is not None
    assert keys.problem() is None


@pytest.mark.usefixtures("at_once")
def test_two_keys_with_one_id_are_a_broken_file(path: Path) -> None:
    add_key(path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({"version": 1, "keys": document["keys"] * 2}))
    with pytest.raises(KeysError, match="same id"):
        KeysFile(path)


@pytest.mark.usefixtures("at_once")
def test_deleting_the_file_revokes_all_keys(path: Path) -> None:
    add_key(path)
    keys = KeysFile(path)
    assert names(keys) == ["ci"]
    path.unlink()
    assert names(keys) == []


def test_a_file_that_cannot_be_read_is_a_broken_one(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(KeysError, match="not a regular file"):
        KeysFile(path)


def test_no_message_repeats_what_is_in_the_file(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"keys": [{"id": "hunter2", "sha256": "hunter2"}]}')
    with pytest.raises(KeysError) as error:
        read_keys(path)
    assert "hunter2" not in str(error.value)


def test_the_revoked_keys_are_those_with_a_revocation(path: Path) -> None:
    add_key(path)
    revoked = add_key(path, revoked=datetime.now(UTC))
    assert KeySource(Settings(keys_file=path)).revoked() == [id_of(revoked)]


def test_the_message_names_the_place_of_a_mistake(path: Path) -> None:
    add_key(path)
    document = json.loads(path.read_text())
    document["keys"][0]["scopes"] = 1
    path.write_text(json.dumps(document))
    with pytest.raises(KeysError, match=r"^keys\.0\.scopes: "):
        KeysFile(path)
    path.write_text("no JSON")
    with pytest.raises(KeysError, match=r"^the text: "):
        KeysFile(path)


def test_a_server_needs_a_key_that_is_valid_now_unless_callers_need_none(path: Path) -> None:
    assert usable_keys(load_settings(_env_file=None, enable_auth=False, keys_file=path)).records() == {}
    add_key(path, revoked=datetime.now(UTC))
    with pytest.raises(SettingsError, match="no key that is valid"):
        usable_keys(load_settings(_env_file=None, keys_file=path))
    add_key(path)
    assert len(usable_keys(load_settings(_env_file=None, keys_file=path)).records()) == 2


@POSIX
def test_the_lock_beside_the_file_is_for_its_owner_only(path: Path) -> None:
    before = os.umask(0)
    try:
        add_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(f"{path}.lock").stat().st_mode) == 0o600
