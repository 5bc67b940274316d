"""`keys create`, `list`, `revoke`, `rotate`: the key goes to standard output, once, and nowhere else."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mcp_chassis import cli
from mcp_chassis.auth.keys.days import KeyDays
from mcp_chassis.auth.keys.format import digest, id_of
from mcp_chassis.auth.keys.store import KeySource, changing_keys, read_keys
from mcp_chassis.auth.keys.verifier import KeyVerifier
from mcp_chassis.auth.verifier import InvalidCredential
from mcp_chassis.events.log import EventLog
from mcp_chassis.settings import load_settings
from secure_mcp_server.server import SERVER

Run = Callable[..., tuple[int, str, str]]
CREATE = ("create", "--name", "ci", "--scopes", "notes:write, notes:read")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEYS_FILE", "keys/keys.json")
    monkeypatch.setattr(cli.serve, "configure_logging", lambda *_, **__: None)
    return tmp_path / "keys" / "keys.json"


@pytest.fixture
def run(path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one `keys` command; return its exit code and what it wrote."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(SERVER, ["keys", *arguments])
        streams = capfd.readouterr()
        return code, streams.out, streams.err

    return run


def test_create_prints_the_key_and_nothing_else_so_that_it_can_be_piped(run: Run, path: Path) -> None:
    code, out, err = run(*CREATE)
    assert code == 0
    key = out.removesuffix("\n")
    assert re.fullmatch(r"mcp_[0-9a-z]{10}_[0-9A-Za-z]{49}", key)
    assert key not in err
    assert key.rpartition("_")[2] not in path.read_text()
    record = read_keys(path)[id_of(key)]
    assert (record.name, record.scopes, record.sha256) == ("ci", ("notes:read", "notes:write"), digest(key))
    assert record.expires is not None
    assert record.expires - record.created == timedelta(days=90)


@pytest.mark.parametrize(
    ("expires", "lifetime"),
    [("90d", timedelta(days=90)), ("12h", timedelta(hours=12)), ("30m", timedelta(minutes=30)), ("never", None)],
)
def test_create_with_an_end(run: Run, path: Path, expires: str, lifetime: timedelta | None) -> None:
    run(*CREATE, "--expires", expires)
    (record,) = read_keys(path).values()
    assert (record.expires - record.created if record.expires else None) == lifetime


@pytest.mark.parametrize(
    "arguments",
    [
        (*CREATE, "--expires", "0d"),
        (*CREATE, "--expires", "-1d"),
        (*CREATE, "--expires", "9999999d"),
        (*CREATE, "--expires", "٣d"),
        (*CREATE, "--expires", "tomorrow"),
        ("create", "--name", "ci"),
        ("create", "--scopes", "a"),
        ("rotate", "x", "--overlap", "never"),
        ("revoke",),
        (),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_makes_no_key(run: Run, path: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "scopes"),
    [("", "a"), ("a\nb", "a"), ("\x1b[31m", "a"), ("a" * 65, "a"), ("ci", ""), ("ci", ","), ("ci", 'a"b'), ("ci", "é")],
    ids=repr,
)
def test_what_would_spoil_a_list_or_a_header_is_no_name_and_no_scope(
    run: Run, path: Path, name: str, scopes: str
) -> None:
    code, out, err = run("create", "--name", name, "--scopes", scopes)
    assert (code, out) == (2, "")
    assert err.startswith(("--name: write", "--scopes: write"))
    assert not path.exists()


def test_two_valid_keys_of_one_name_cannot_be_told_apart(run: Run, path: Path) -> None:
    run(*CREATE)
    code, out, err = run(*CREATE)
    assert (code, out) == (1, "")
    assert "rotate" in err
    assert len(read_keys(path)) == 1


def test_a_scope_that_no_tool_needs_is_noted(run: Run) -> None:
    assert "no tool of this server asks for the scope no:such" in run("create", "--name", "a", "--scopes", "no:such")[2]
    assert "Note" not in run("create", "--name", "b", "--scopes", "events:read,metrics:read")[2], "those are of pages"
    assert "no tool" not in run("create", "--name", "b", "--scopes", "*")[2]


def test_list_shows_everything_but_secrets(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = run(*CREATE)[1].strip()
    monkeypatch.setenv("KEYS", path.read_text().replace(id_of(key), "fromkeys00").replace('"ci"', '"zoe"'))
    code, out, err = run("list")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 3)
    assert lines[0].split() == ["ID", "NAME", "SCOPES", "LABELS", "CREATED", "EXPIRES", "LAST", "USED", "STATE"]
    assert lines[1].startswith(f"{id_of(key)}  ci    notes:read notes:write  ")
    assert lines[1].endswith("  unknown    valid")
    assert lines[2].startswith("fromkeys00  zoe")
    assert not any(secret in out for secret in (key, key.rpartition("_")[2], digest(key)))


def test_list_shows_when_each_key_was_last_used(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTS_FILE", "var/events.db")
    ids = {name: id_of(run("create", "--name", name, "--scopes", "a")[1].strip()) for name in ("a", "b", "c", "d")}
    assert run("list")[1].count("  unknown  ") == 4
    today = datetime.now(UTC).date()
    long_ago = today - timedelta(days=100)
    (path.parent.parent / "var").mkdir()
    file = path.parent.parent / "var" / "events.db"
    KeyDays(KeySource(load_settings(_env_file=None)), EventLog(), file)._note(
        {ids["a"]: str(today), ids["b"]: str(long_ago), ids["c"]: "\x1b[31m"}
    )
    a, b, c, d = run("list")[1].splitlines()[1:]
    assert f"  {today}  " in a
    assert f"  {long_ago}, 100 days ago  " in b
    assert "  never  " in c, "a text that is no day is not shown"
    assert "  never  " in d


def test_revoke_ends_a_key_for_good(run: Run, path: Path) -> None:
    key = run(*CREATE)[1].strip()
    assert run("revoke", id_of(key))[:2] == (0, "")
    (record,) = read_keys(path).values()
    assert record.state(datetime.now(UTC)) == "revoked"
    assert run("list")[1].splitlines()[1].endswith("revoked")
    for command in ("revoke", "rotate"):
        code, out, err = run(command, id_of(key))
        assert (code, out) == (1, "")
        assert "is revoked already" in err


def test_a_name_works_beside_the_id(run: Run, path: Path) -> None:
    run("create", "--name", "alice@laptop", "--scopes", "a")
    assert "alice@laptop" in run("rotate", "alice@laptop")[2]
    assert run("revoke", "alice@laptop")[0] == 0
    assert [record.revoked is not None for record in read_keys(path).values()] == [True]
    assert "is revoked already" in run("revoke", "alice@laptop")[2]
    run("create", "--name", "alice@laptop", "--scopes", "a")
    assert run("revoke", "alice@laptop")[0] == 0, "the one of that name that is not revoked yet"


def test_a_name_of_two_keys_is_answered_with_their_ids(run: Run, path: Path) -> None:
    first = id_of(run(*CREATE)[1].strip())
    with changing_keys(path) as keys:
        keys[first] = keys[first].model_copy(update={"expires": keys[first].created})
    second = id_of(run(*CREATE)[1].strip())
    for command in ("revoke", "rotate"):
        code, out, err = run(command, "ci")
        assert (code, out) == (1, "")
        assert first in err
        assert second in err
    assert not any(record.revoked for record in read_keys(path).values())


def test_an_id_is_never_taken_for_the_name_of_another_key(run: Run, path: Path) -> None:
    wanted = id_of(run(*CREATE)[1].strip())
    other = id_of(run("create", "--name", wanted, "--scopes", "a")[1].strip())
    assert run("revoke", wanted)[0] == 0
    assert [read_keys(path)[key].revoked is not None for key in (wanted, other)] == [True, False]


def test_labels_are_kept_and_listed(run: Run, path: Path) -> None:
    labels = ("--label", "tenant=acme", "--label", "groups=a", "--label", "groups=b")
    assert run(*CREATE, *labels)[0] == 0
    (record,) = read_keys(path).values()
    assert record.principal.claims == {"tenant": "acme", "groups": ("a", "b")}
    assert "  tenant=acme groups=a groups=b  " in run("list")[1]
    run("rotate", "ci")
    assert next(iter(read_keys(path).values())).principal == record.principal


@pytest.mark.parametrize("label", ["", "tenant", "tenant=", "=acme", "a-b=c", "a=\n", "a=" + "b" * 65])
def test_a_wrong_label_makes_no_key(run: Run, path: Path, label: str) -> None:
    code, out, err = run(*CREATE, "--label", label)
    assert (code, out) == (2, "")
    assert err.startswith("--label: write")
    assert not path.exists()


def test_a_key_in_the_settings_is_not_said_to_be_revoked(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = run(*CREATE)[1].strip()
    monkeypatch.setenv("KEYS", path.read_text())
    path.unlink()
    for command in ("revoke", "rotate"):
        code, out, err = run(command, id_of(key))
        assert (code, out) == (1, "")
        assert "there is no key" in err


@pytest.mark.anyio
async def test_rotate_prints_a_new_secret_and_the_old_one_lives_for_the_overlap(run: Run, path: Path) -> None:
    old = run(*CREATE, "--expires", "30d")[1].strip()
    code, out, err = run("rotate", id_of(old), "--overlap", "2h")
    new = out.strip()
    assert code == 0
    assert id_of(new) == id_of(old)
    assert new != old
    assert new not in err
    judge = KeyVerifier(lambda: read_keys(path))
    assert await judge.verify(old) == await judge.verify(new)
    (record,) = read_keys(path).values()
    assert record.previous_until == record.created + timedelta(hours=2)
    assert record.expires == record.created + timedelta(days=30)
    assert "the one before until" in run("list")[1]


def test_the_old_secret_does_not_outlive_itself(run: Run, path: Path) -> None:
    old = run(*CREATE, "--expires", "1h")[1].strip()
    (before,) = read_keys(path).values()
    run("rotate", id_of(old), "--overlap", "7d")
    (record,) = read_keys(path).values()
    assert record.previous_until == before.expires


@pytest.mark.anyio
async def test_a_second_rotation_does_not_end_a_secret_that_was_promised(run: Run, path: Path) -> None:
    first = run(*CREATE)[1].strip()
    assert run("rotate", id_of(first), "--overlap", "2h")[0] == 0
    code, out, err = run("rotate", id_of(first), "--overlap", "2h")
    assert (code, out) == (1, "")
    assert "--overlap 0m" in err
    judge = KeyVerifier(lambda: read_keys(path))
    assert await judge.verify(first) is not None
    last = run("rotate", id_of(first), "--overlap", "0m")[1].strip()
    assert await judge.verify(last) is not None
    with pytest.raises(InvalidCredential):
        await judge.verify(first)


def test_a_key_can_be_rotated_again_once_the_secret_before_has_ended(run: Run, path: Path) -> None:
    key = run(*CREATE)[1].strip()
    run("rotate", id_of(key), "--overlap", "0m")
    assert run("rotate", id_of(key), "--overlap", "2h")[0] == 0


def test_rotating_a_key_whose_end_was_written_by_hand_as_never(run: Run, path: Path) -> None:
    key = run(*CREATE)[1].strip()
    with changing_keys(path) as keys:
        far = datetime(9999, 12, 31, tzinfo=UTC)
        keys[id_of(key)] = keys[id_of(key)].model_copy(update={"expires": far})
    assert run("rotate", id_of(key))[0] == 0
    record = read_keys(path)[id_of(key)]
    assert record.expires is not None
    assert record.expires - record.created == timedelta(days=3650), "as long as `keys create` gives"


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_id_that_is_not_there(run: Run, path: Path, command: str) -> None:
    code, out, err = run(command, "no\x1bsuch")
    assert (code, out) == (1, "")
    assert "there is no key" in err
    assert "\x1b" not in err


@pytest.mark.parametrize("arguments", [CREATE, ("list",), ("revoke", "x"), ("rotate", "x")])
def test_a_broken_file_is_an_error_and_stays_as_it_is(run: Run, path: Path, arguments: tuple[str, ...]) -> None:
    path.parent.mkdir()
    path.write_text("{")
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert str(Path("keys/keys.json")) in err
    assert path.read_text() == "{"


def test_without_a_place_for_keys_it_says_which_setting_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYS_FILE")
    code, out, err = run("list")
    assert (code, out) == (78, "")
    assert "KEYS_FILE: is missing" in err


def test_keys_can_be_made_before_the_server_could_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    assert run(*CREATE)[0] == 0
