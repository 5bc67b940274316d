"""Code that differs between Linux, macOS and Windows: every branch runs here, on a system that is named to it.

The workflow runs all fast tests on the three systems. These are for the branches of the systems that are not here.
"""

import asyncio
import importlib.util
import os
import re
import runpy
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

import mcp_chassis
from mcp_chassis.audit_trail import trail
from mcp_chassis.auth.keys import store
from mcp_chassis.cli import file_rights
from mcp_chassis.events import file as event_file
from mcp_chassis.http import server
from mcp_chassis.mcp import stdio
from mcp_chassis.replicas import workers
from mcp_chassis.sinks import commands

CHASSIS = Path(mcp_chassis.__file__).parent
TESTED = {
    *("audit_trail/trail.py", "auth/keys/store.py", "cli/file_rights.py", "events/file.py", "http/server.py"),
    *("locks.py", "mcp/stdio.py", "replicas/workers.py", "sinks/commands.py", "sinks/supervisor.py"),
}
DIFFERS = re.compile(r"sys\.platform|os\.name\b|hasattr\((os|signal|socket),|has_dualstack")


def test_every_module_that_differs_is_tested_here() -> None:
    found = {
        path.relative_to(CHASSIS).as_posix()
        for path in CHASSIS.rglob("*.py")
        if DIFFERS.search(path.read_text(encoding="utf-8"))
    }
    assert found == TESTED


def changed(module: ModuleType, *without: str, **members: object) -> SimpleNamespace:
    """Return a module with other members, for one module to see: the rest of the process keeps the real one."""
    return SimpleNamespace(
        **{name: value for name, value in {**vars(module), **members}.items() if name not in without}
    )


def copy_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the chassis once more, in a copy, so that what it does while it is imported happens again."""
    path = CHASSIS / f"{name.replace('.', '/')}.py"
    spec = importlib.util.spec_from_file_location(f"{mcp_chassis.__name__}.{name}_copy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


# --- files ---


def test_keys_are_replaced_on_a_system_without_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "sys", changed(sys, platform="win32"))
    monkeypatch.setattr(store, "os", changed(os, "geteuid", "fchown"))
    (tmp_path / "keys.json").write_text("old", encoding="utf-8")
    store._replace(tmp_path / "keys.json", "new")
    assert (tmp_path / "keys.json").read_text(encoding="utf-8") == "new"


def test_root_leaves_the_keys_to_their_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    as_root = changed(os, geteuid=lambda: 0, fchown=lambda _, user, group: given.append((user, group)))
    monkeypatch.setattr(store, "sys", changed(sys, platform="darwin"))
    monkeypatch.setattr(store, "os", as_root)
    path = tmp_path / "keys.json"
    path.write_text("old", encoding="utf-8")
    owner = path.stat()
    store._replace(path, "new")
    assert given == [(owner.st_uid, owner.st_gid)]


def test_modes_are_judged_and_set_only_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.db"
    path.touch(0o666)
    monkeypatch.setattr(file_rights, "os", changed(os, "statvfs", "geteuid", "getegid", name="nt"))
    assert list(file_rights.too_open(path, file_rights.READ_OR_WRITE)) == []
    path.unlink()
    monkeypatch.setattr(event_file, "os", changed(os, "O_NOFOLLOW", name="nt"))
    monkeypatch.setattr(Path, "chmod", lambda *_: pytest.fail("Windows has no modes"))
    kept = event_file.EventFile(path)
    assert kept.events() == []
    assert kept._database is not None
    kept._database.close()


def test_the_audit_trail_is_opened_without_fchmod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "os", changed(os, "fchmod"))
    with trail._open(tmp_path / "audit.jsonl") as opened:
        assert opened.write(b"x") == 1


def test_a_lock_of_windows_is_taken_beyond_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, int]] = []
    fake: Any = ModuleType("msvcrt")
    fake.LK_LOCK, fake.LK_NBLCK, fake.LK_UNLCK = 1, 2, 3
    fake.locking = lambda descriptor, how, _: done.append((how, os.lseek(descriptor, 0, os.SEEK_CUR)))
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    monkeypatch.setattr(sys, "platform", "win32")
    locks = copy_of("locks", monkeypatch)
    with (tmp_path / "file").open("w") as file:
        for wait in (True, False):
            with locks.locked(file.fileno(), wait=wait):
                pass
    assert done == [(how, 1 << 40) for how in (1, 3, 2, 3)]


# --- signals and sockets ---


def test_every_signal_that_a_system_has_stops_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[int] = []
    windows = changed(signal, SIGBREAK=21, signal=lambda number, _: handled.append(number))
    ran = SimpleNamespace(run=lambda _: None)
    monkeypatch.setattr(server, "signal", windows)
    monkeypatch.setattr(server, "make_server", lambda *_: ran)
    monkeypatch.setattr(server, "gc", SimpleNamespace(collect=lambda: None, freeze=lambda: None))
    server.serve(cast(Any, None), cast(Any, None))
    assert handled == [signal.SIGTERM, signal.SIGINT, 21]


def test_workers_stop_on_the_signal_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, Any] = {}
    ended: list[str] = []
    monkeypatch.setattr(workers, "signal", changed(signal, SIGBREAK=21, signal=handlers.__setitem__))

    class Worker:
        exitcode, pid = None, 1

        def is_alive(self) -> bool:
            handlers[21]()
            return True

        def terminate(self) -> None:
            ended.append("terminated")

        def join(self) -> None:
            ended.append("joined")

    monkeypatch.setattr(workers, "_CHECK_SECONDS", 0.01)
    monkeypatch.setattr(workers, "_start", lambda _: Worker())
    workers.run_workers(1, lambda: None)
    assert ended == ["terminated", "joined"]


def test_a_system_without_fork_needs_no_handler_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    assert copy_of("http.server", monkeypatch).serve is not None


@pytest.mark.parametrize("both", [True, False])
def test_all_addresses_are_both_families_where_a_socket_can_serve_both(
    both: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def create(_: tuple[str, int], **options: Any) -> Any:
        asked.update(options)
        return SimpleNamespace(setsockopt=lambda *_: None)

    import socket

    fake = changed(socket, has_dualstack_ipv6=lambda: both, create_server=create)
    monkeypatch.setattr(server, "socket", fake)
    server.listening_socket("::", 0)
    assert (asked["family"], asked["dualstack_ipv6"]) == (socket.AF_INET6, both)
    server.listening_socket("127.0.0.1", 0)
    assert (asked["family"], asked["dualstack_ipv6"]) == (socket.AF_INET, False)


def test_stdio_asks_no_loop_of_windows_for_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop there has no signal handlers, and says so by an error."""

    class Parts:
        @asynccontextmanager
        async def run(self) -> AsyncIterator[None]:
            yield

    class Server:
        async def run_stdio_async(self) -> str:
            return "ended"

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "add_signal_handler", lambda *_: pytest.fail("not on Windows"), raising=False)
        return await stdio._serve(cast(Any, Server()), cast(Any, Parts()))

    monkeypatch.setattr(stdio, "sys", changed(sys, platform="win32"))
    assert asyncio.run(main()) == "ended"


# --- programs ---


def test_programs_of_windows_get_what_finds_their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("SYSTEMROOT", r"D:\Windows")
    assert copy_of("sinks.commands", monkeypatch)._ENVIRONMENT["SYSTEMROOT"] == r"D:\Windows"


@pytest.mark.parametrize(
    ("platform", "ended", "sent"),
    [
        *(("darwin", False, "group"), ("darwin", True, "group")),
        *(("win32", False, "process"), ("win32", True, "")),
        *(("linux", False, "process"), ("linux", True, "")),
    ],
)
def test_a_program_is_ended_as_its_system_can(
    platform: str, ended: bool, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fake = changed(os, killpg=lambda *_: done.append("group"), kill=lambda *_: done.append("process"))
    monkeypatch.setattr(commands, "os", fake)
    monkeypatch.setattr(commands, "sys", changed(sys, platform=platform))
    monkeypatch.setattr(commands, "signal", changed(signal, SIGKILL=9))
    child = commands._Child(1)
    child._transport = cast(Any, SimpleNamespace(get_pid=lambda: 4711, get_returncode=lambda: 0 if ended else None))
    child.stop()
    assert "".join(done) == sent


@pytest.mark.anyio
@pytest.mark.parametrize("platform", ["darwin", "win32"])
async def test_a_program_runs_without_the_supervisor_where_there_is_none(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "sys", changed(sys, platform=platform))
    monkeypatch.setattr(commands, "_SUPERVISOR", ("/nothing",))
    words = ["python", *commands.options("-c", "import os; print(os.getppid())")]
    finished = await commands.run_argv(words, programs=commands.Programs({"python": sys.executable}))
    assert (finished.code, finished.stdout.strip()) == (0, str(os.getpid())), "started by the server itself"


def test_the_supervisor_says_that_it_is_for_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ImportError, match="Only Linux"):
        runpy.run_path(str(CHASSIS / "sinks/supervisor.py"))
