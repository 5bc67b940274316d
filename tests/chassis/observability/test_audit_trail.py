"""The audit trail's file: private, continued after everything that can happen to it, and never in the way."""

import errno
import json
import os
import secrets
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from mcp_chassis.audit_trail import trail as audit_trail
from mcp_chassis.audit_trail.chain import derived_key, verify
from mcp_chassis.audit_trail.records import TrailRecorder
from mcp_chassis.audit_trail.trail import AuditTrail
from mcp_chassis.events import untrusted
from mcp_chassis.http.current_request import RequestContext, current_request

from ..support.running import wait_until

SECRET = "a secret for tests"
KEY = derived_key(SECRET, "audit chain")
SOURCE = Path(audit_trail.__file__).parents[2]


@contextmanager
def writing(path: Path, **options: Any) -> Iterator[AuditTrail]:
    """Write a trail while the block runs."""
    trail = AuditTrail(path, SECRET, **options)
    trail.start()
    try:
        yield trail
    finally:
        trail.close()


def write(path: Path, *actions: str) -> None:
    """Write one line for each action."""
    with writing(path) as trail:
        for action in actions:
            trail.put({"event.action": action})


def actions(*paths: Path) -> list[str]:
    """Return the actions in a trail that is whole."""
    lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
    assert verify(KEY, lines).problems == []
    return [json.loads(line)["event.action"] for line in lines]


def test_records_are_written_in_order_with_their_time_and_no_other_user_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.touch(0o644)
    write(path, *(f"action {number}" for number in range(1000)))
    assert actions(path) == [f"action {number}" for number in range(1000)]
    line = json.loads(path.read_text().splitlines()[0])
    assert line["@timestamp"].endswith("+00:00")
    assert (line["ecs.version"], line["event.kind"], line["process.pid"]) == ("9.0.0", "event", os.getpid())
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("status", [200, 429])
def test_a_line_has_the_name_of_the_key_beside_its_id(status: int) -> None:
    """Of a call, and of a request that was refused before one."""
    put: list[dict[str, Any]] = []
    recorder = TrailRecorder(SimpleNamespace(put=put.append))  # type: ignore[arg-type]
    request = RequestContext("a-request", "192.0.2.1")
    who = {"principal": "key:4k9x2m7q1z", "key_name": "ci"}
    if status == 200:
        token = current_request.set(request)
        recorder.call("tool_call", {**who, "tool": "a_tool", "outcome": "ok"}, [], seconds=0.1, error=None)
        current_request.reset(token)
    recorder.request(request, {**who, "method": "POST", "path": "/mcp", "status": status})
    assert [(line["user.id"], line["user.name"]) for line in put] == [("key:4k9x2m7q1z", "ci")]


def test_a_restart_goes_on_with_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, "one", "two")
    write(path, "three")
    assert actions(path) == ["one", "two", "three"]


@pytest.mark.parametrize("torn", [b"{", b'{"@timestamp":"2026-01-01', b'{"@timestamp":"2026", "x": "' + b"y" * 9000])
@pytest.mark.parametrize("before", [(), ("one", "two")])
def test_so_it_does_after_a_line_that_was_cut_off(tmp_path: Path, torn: bytes, before: tuple[str, ...]) -> None:
    """A record that a crash has cut is removed, and the trail has a line about it."""
    path = tmp_path / "audit.jsonl"
    write(path, *before)
    path.write_bytes(path.read_bytes() + torn)
    write(path, "three")
    assert actions(path) == [*before, "trail_repaired", "three"]
    assert json.loads(path.read_text().splitlines()[-2])["mcp.audit.removed"] == len(torn)


@pytest.mark.parametrize("content", ["\n", "my notes\n", '{"a": 1}\n', "no line feed"])
def test_another_file_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match="something else than an audit trail"):
        AuditTrail(path, SECRET)
    assert path.read_text() == content


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not rename a file that is open")
def test_a_renamed_file_is_followed_by_a_new_one_that_goes_on(tmp_path: Path) -> None:
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    with writing(path) as first, writing(path) as second:
        first.put({"event.action": "one"})
        wait_until(lambda: path.stat().st_size)
        second.put({"event.action": "two"})
        wait_until(lambda: len(actions(path)) == 2)
        path.rename(old)
        first.put({"event.action": "three"})
        wait_until(path.exists)
        wait_until(lambda: path.stat().st_size)
        second.put({"event.action": "four"})
    assert actions(old, path) == ["one", "two", "three", "four"]


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    program = """
        import pathlib, sys, time
        from mcp_chassis.audit_trail.trail import AuditTrail
        trail = AuditTrail(pathlib.Path(sys.argv[1]), sys.argv[2])
        trail.start()
        print("ready", flush=True)
        sys.stdin.readline()  # all begin together
        for number in range(300):
            trail.put(dict([("event.action", f"{sys.argv[3]} {number}")]))
            if number % 3 == 0:
                time.sleep(0.001)  # so that there are many batches
        trail.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path), SECRET]
    processes = [subprocess.Popen([*command, name], cwd=SOURCE, stdin=PIPE, stdout=PIPE) for name in "abc"]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    written = actions(path)
    for name in "abc":
        assert [action for action in written if action[0] == name] == [f"{name} {number}" for number in range(300)]


FULL = """
    import json, os, pathlib, resource, sys, time
    from mcp_chassis.audit_trail.trail import AuditTrail
    from mcp_chassis.events.logging import configure_logging
    configure_logging("INFO", log_format="json")
    path = pathlib.Path(sys.argv[1])
    trail = AuditTrail(path, sys.argv[2])
    trail.start()

    def put(action):
        trail.put({"event.action": action})
        while trail._waiting.qsize():
            time.sleep(0.001)

    put("before")
    while not path.stat().st_size:
        time.sleep(0.001)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, most))  # a line does not fit, a part does
    for number in range(3):
        put(f"lost {number}")
    while not trail.problems():
        time.sleep(0.001)
    problems = trail.problems()
    while trail._lost < 3:
        time.sleep(0.001)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    put("after")
    trail.close()
    print(json.dumps([problems, trail.problems()]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE to have a disk full")
def test_a_full_disk_stops_nothing_and_is_reported(tmp_path: Path) -> None:
    """Not even half a line stays, and when there is room again the trail itself says how many records are missing."""
    path = tmp_path / "audit.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(path), SECRET],
        cwd=SOURCE, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert actions(path) == ["before", "records_lost", "after"]
    assert json.loads(path.read_text().splitlines()[1])["mcp.audit.lost"] == 3
    full, repaired = json.loads(done.stdout)
    assert full[0].startswith("The audit trail is not written, its records are lost: ")
    assert repaired == []
    said = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert said.count("the audit trail is not written: records are lost") == 1, "one line, however long it lasts"
    assert said.count("the audit trail is written again") == 1


def test_no_call_waits_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_trail, "_STOP_SECONDS", 0.1)
    hanging, go_on = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        hanging.set()
        go_on.wait()

    trail = AuditTrail(tmp_path / "audit.jsonl", SECRET)
    monkeypatch.setattr(trail, "_append", hang)
    trail.start()
    trail.put({"event.action": "one"})
    hanging.wait()
    with structlog.testing.capture_logs() as lines:
        for _ in range(audit_trail._MAX_WAITING + 10):
            trail.put({"event.action": "more"})
    assert [line["event"] for line in lines] == ["the audit trail is not written: records are lost"]
    assert trail.problems() == [
        "The audit trail is not written, its records are lost: it is not written as fast as it grows."
    ]
    trail.close()
    go_on.set()


def test_lines_that_vanish_while_it_is_written_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with structlog.testing.capture_logs() as logged, writing(path) as trail:
        for action in ("one", "two", "three"):
            trail.put({"event.action": action})
        wait_until(lambda: path.read_bytes().count(b"\n") == 3)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
        trail.put({"event.action": "four"})
    assert "lines of the audit trail are gone" in [line["event"] for line in logged]
    lines = path.read_bytes().splitlines(keepends=True)
    assert verify(KEY, lines).problems == ["before line 2, 2 lines are missing: 2 to 3."]


def test_the_head_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with structlog.testing.capture_logs() as logged:
        write(path, "one", "two")
    heads = [line["head"] for line in logged if line["event"] == "audit trail head"]
    assert heads[-1] == str(verify(KEY, path.read_bytes().splitlines(keepends=True)).head)


def test_secrets_are_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    untrusted.add_secrets([secret := "kT4" + secrets.token_urlsafe(32)])
    with writing(path) as trail:
        trail.put({"event.action": secret, "mcp.arguments": trail.hashes({secret[:20]: b'"hunter2"'})})
    assert actions(path) == ["[redacted]"]
    assert secret[:8] not in path.read_text()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system opens links in any case")
def test_a_link_at_its_place_is_not_followed_at_the_start(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "audit.jsonl"
    target.touch(0o644)
    path.symlink_to(target)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        AuditTrail(path, SECRET)
    assert (target.stat().st_mode & 0o777, target.read_bytes()) == (0o644, b"")


def test_an_argument_is_described_by_its_size_and_a_keyed_hash(tmp_path: Path) -> None:
    one, two = AuditTrail(tmp_path / "1", SECRET), AuditTrail(tmp_path / "2", "another secret")
    (first, same, other, none) = one.hashes({"a": b'"x"', "b": b'"x"', "c": b'"y"', "d": None})
    assert first == {"name": "a", "size": 3, "hash": same["hash"]}
    assert len({first["hash"], other["hash"], two.hashes({"a": b'"x"'})[0]["hash"]}) == 3
    assert none == {"name": "d"}
    one.close()
    two.close()
