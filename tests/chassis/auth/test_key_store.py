"""The keys file: written in one step and under a lock, followed without a restart, and never holding a secret."""

import json
import os
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from mcp_chassis.auth.keys import store as key_store
from mcp_chassis.auth.keys.format import id_of, new_id, new_key
from mcp_chassis.auth.keys.records import SOON, KeysError, format_records, parse_records
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


@pytest.mark.parametrize("seconds", [0, 9.5, 10.5])
def test_a_writer_waits_ten_seconds_for_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    with ExitStack() as held:
        held.enter_context(changing_keys(path))
        clock = SimpleNamespace(now=0.0)

        def sleep(step: float) -> None:
            clock.now += step
            if clock.now >= seconds:
                held.close()

        monkeypatch.setattr(key_store, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
        if seconds <= 10:
            add_key(path)
            assert len(read_keys(path)) == 1
        else:
            with pytest.raises(KeysError, match="another process is changing it"):
                add_key(path)
        assert clock.now <= min(seconds, 10) + 0.1, "it tries again soon"


def test_missing_directories_are_made(tmp_path: Path) -> None:
    path = tmp_path / "one" / "two" / "keys.json"
    add_key(path)
    assert len(read_keys(path)) == 1


def test_the_cause_of_a_failed_write_is_named_even_if_the_new_file_is_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(source: str, _: object) -> None:
        os.unlink(source)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(KeysError, match="Input/output error"):
        add_key(path)


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


def test_a_change_is_noticed_after_exactly_a_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(key_store, "time", SimpleNamespace(monotonic=lambda: clock.now))
    keys = KeysFile(path)
    path.parent.mkdir()
    path.write_text(format_records([record_of(new_key(new_id()))]))
    clock.now = 1000.999
    assert names(keys) == []
    clock.now = 1001.0
    assert names(keys) == ["ci"]


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
def test_a_file_that_becomes_unreadable_is_reported_although_there_was_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    keys = KeysFile(path)
    assert keys.problem() is None
    with monkeypatch.context() as patch:
        for name in ("stat", "read_text"):
            patch.setattr(Path, name, denied)
        problem = keys.problem()
    assert "Permission denied" in str(problem)


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


def test_an_invalid_record_does_not_show_its_values() -> None:
    with pytest.raises(ValidationError, match="sha256") as error:
        record_of(new_key(new_id()), sha256="hunter2")
    assert "hunter2" not in str(error.value)


def test_the_end_of_a_key_is_announced_14_days_before() -> None:
    """As `docs/authentication.md` and `docs/events.md` say."""
    assert timedelta(days=14) == SOON


def test_a_broken_keys_file_is_named_as_a_setting_at_the_start(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(
        SettingsError, match=r"KEYS_FILE: .*keys\.json cannot be used: the text: .*Repair or restore it"
    ):
        KeySource(Settings(keys_file=path))


def test_an_invalid_setting_is_named_without_its_text() -> None:
    with pytest.raises(
        SettingsError, match=r"KEYS: cannot be used: keys\.0\.id: .* the text of a keys file\."
    ) as error:
        KeySource(Settings(keys=SecretStr('{"keys": [{"id": "hunter2"}]}')))
    assert "hunter2" not in str(error.value)


@pytest.mark.usefixtures("at_once")
def test_the_server_reports_a_keys_file_that_broke_since_the_start(path: Path) -> None:
    add_key(path)
    source = KeySource(Settings(keys_file=path))
    assert source.problems() == []
    path.write_text("{")
    (problem,) = source.problems()
    assert problem.startswith("The keys file cannot be used")
    assert KeySource(Settings()).problems() == []


@pytest.mark.parametrize(
    ("field", "accepted", "rejected"),
    [
        ("name", ["a", "a" * 64], ["", "a" * 65, " a"]),
        ("scopes", [("a",), ("a" * 128,), ("a",) * 1000], [(), ("",), ("a" * 129,), ("a b",)]),
        ("labels", [None, {}, {f"a{n}": ("b",) for n in range(32)}], [{f"a{n}": ("b",) for n in range(33)}]),
        ("labels", [{"a" * 64: ("b",)}], [{"": ("b",)}, {"a" * 65: ("b",)}, {"1": ("b",)}]),
        ("labels", [{"a": ("b",) * 32}], [{"a": ()}, {"a": ("b",) * 33}]),
        ("sha256", ["a" * 64], ["a" * 63, "a" * 65, "A" * 64]),
    ],
)
def test_a_record_is_accepted_up_to_the_limits_of_its_fields(field: str, accepted: Any, rejected: Any) -> None:
    key = new_key(new_id())
    for value in accepted:
        record = record_of(key, **{field: value})
        assert parse_records(format_records([record])) == {record.id: record}
    for value in rejected:
        with pytest.raises(ValidationError):
            record_of(key, **{field: value})
