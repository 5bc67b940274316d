"""Arguments that want to be commands or options, and programs that want to outlive their call."""

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_chassis.sinks import (
    CommandError,
    ConfigurationError,
    InvalidInput,
    Programs,
    options,
    run_argv,
)

from ..support.running import environment, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX programs")

SHELL = Programs({"sh": "/bin/sh"}, timeout=5)
SHOW = 'printf "%s" "$1"'


def injections(marker: Path) -> list[str]:
    """Return values that would leave the marker if a shell or an option parser saw them."""
    return [
        f"HEAD; touch {marker}",
        f"HEAD & touch {marker} &",
        f"HEAD && touch {marker}",
        f"HEAD || touch {marker}",
        f"nothing | touch {marker}",
        f"$(touch {marker})",
        f"`touch {marker}`",
        f"HEAD\ntouch {marker}\n",
        f"HEAD > {marker}",
        f'"; touch {marker}; "',
        f"'; touch {marker}; '",
        "HEAD;touch${IFS}" + str(marker),
        f"--output={marker}",
        f"--output {marker}",
        f"-o{marker}",
        f"--exec=touch {marker}",
        f"--upload-pack=touch {marker}",
        f"-c core.pager='touch {marker}'",
        f"–output={marker}",
        "--help",
        "--all",
        "--no-index",
    ]


@pytest.mark.anyio
async def test_values_stay_values(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for value in injections(marker):
        try:
            finished = await run_argv(["sh", *options("-c", SHOW), "sh", value], programs=SHELL)
        except InvalidInput:
            pass
        else:
            assert finished.stdout == value
    assert os.listdir(tmp_path) == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.text(st.characters(exclude_categories=()), max_size=20))
def test_every_value_arrives_as_it_is_or_not_at_all(value: str) -> None:
    try:
        finished = asyncio.run(run_argv(["sh", *options("-c", SHOW), "sh", value], programs=SHELL))
    except InvalidInput:
        return
    assert finished.stdout == value
    assert not value.startswith("-")


@pytest.mark.anyio
async def test_a_value_cannot_become_an_option() -> None:
    for value in ("-c", "--help", "-", "--"):
        with pytest.raises(InvalidInput):
            await run_argv(["sh", value, "touch marker"], programs=SHELL)
    with pytest.raises(InvalidInput):  # not even one that the author uses as well
        await run_argv(["sh", *options("-c", SHOW), "sh", "-c"], programs=SHELL)


HEARTBEAT = "while :; do echo x >> {beats}; sleep 0.02; done"


def heartbeat(path: Path) -> str:
    """Return shell text that writes to `path` without end, in a process of its own, holding the pipes."""
    return f"({HEARTBEAT.format(beats=path)}) &"


async def assert_silent(beats: Path) -> None:
    """Assert that what wrote to `beats` was there and is gone."""
    await anyio.sleep(0.1)
    before = os.stat(beats).st_size
    await anyio.sleep(0.3)
    assert os.stat(beats).st_size == before, "it is still running"


@pytest.mark.anyio
@pytest.mark.parametrize("first", ["", "trap '' TERM INT HUP;"])
@pytest.mark.parametrize("rest", ["wait", "exec sleep 60", "while :; do :; done"])
async def test_a_timeout_ends_grandchildren_too(tmp_path: Path, first: str, rest: str) -> None:
    beats = tmp_path / "beats"
    code = f"{first} {heartbeat(beats)} {rest}"
    started = time.monotonic()
    with pytest.raises(CommandError):
        await run_argv(["sh", *options("-c", code)], programs=Programs({"sh": "/bin/sh"}, timeout=0.5))
    assert time.monotonic() - started < 4
    await assert_silent(beats)


@pytest.mark.anyio
@pytest.mark.parametrize("outputs", ["", "exec >/dev/null 2>&1;"])
async def test_what_a_program_leaves_behind_is_ended_when_it_ends(tmp_path: Path, outputs: str) -> None:
    beats = tmp_path / "beats"
    code = f"echo done; {outputs} {heartbeat(beats)} sleep 0.2"
    started = time.monotonic()
    finished = await run_argv(["sh", *options("-c", code)], programs=SHELL)
    assert time.monotonic() - started < 4
    assert (finished.code, finished.stdout) == (0, "done\n")
    await assert_silent(beats)


PYTHON = {"python": sys.executable}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to another than init")
BEAT = """
import os, signal, sys, time
def beat():
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with open(sys.argv[1], "a") as file:
            file.write("x")
        time.sleep(0.02)
    os._exit(0)
"""
ESCAPES = {
    "a session of its own": "if os.fork() == 0: os.setsid(); beat()",
    "a daemon": """
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.closerange(0, 256)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    beat()
""",
    "a daemon that is stopped": "if os.fork() == 0: os.setsid(); os.kill(os.getpid(), signal.SIGSTOP); beat()",
    "an orphan of a group of its own": "if os.fork() == 0:\n if os.fork() == 0: os.setpgid(0, 0); beat()\n os._exit(0)",
    "a process that flees": """
def flee():
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if os.fork():
            os._exit(0)
        os.setsid()
        with open(sys.argv[1], "a") as file:
            file.write("x")
for _ in range(10):
    if os.fork() == 0: flee()
""",
}


@LINUX
@pytest.mark.anyio
@pytest.mark.parametrize("end", ["time.sleep(0.3)", "time.sleep(60)", "os.kill(os.getpid(), signal.SIGKILL)"])
@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
async def test_what_leaves_the_group_is_ended_too(tmp_path: Path, escape: str, end: str) -> None:
    beats = tmp_path / "beats"
    code = f"{BEAT}{escape}\nwhile not os.path.exists(sys.argv[1]) and 'STOP' not in {escape!r}: pass\n{end}"
    with pytest.raises(CommandError, match="was ended") if "60" in end else nullcontext():
        await run_argv(["python", *options("-IS", "-c", code), str(beats)], programs=Programs(PYTHON, timeout=1.5))
    beats.touch()
    await assert_silent(beats)
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and str(beats) in command_line(pid)]


def command_line(pid: str) -> str:
    """Return the command line of a process, or nothing if it has ended."""
    try:
        return Path("/proc", pid, "cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@LINUX
@pytest.mark.anyio
@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
async def test_cancellation_ends_what_left_the_group(tmp_path: Path, escape: str) -> None:
    beats = tmp_path / "beats"
    argv = ["python", *options("-IS", "-c", f"{BEAT}{escape}\ntime.sleep(60)"), str(beats)]
    await by_asyncio(lambda: run_argv(argv, programs=Programs(PYTHON)), 0.5)
    beats.touch()
    await assert_silent(beats)


@LINUX
def test_a_server_that_is_killed_leaves_no_program_behind(tmp_path: Path) -> None:
    beats, code = tmp_path / "beats", f"{BEAT}{ESCAPES['a daemon']}\ntime.sleep(60)"
    package = run_argv.__module__.rpartition(".")[0]
    server = f"import asyncio, sys; from {package} import *; asyncio.run(run_argv(['python', "
    server += f"*options('-IS', '-c', {code!r}), {str(beats)!r}], programs=Programs({PYTHON!r}, timeout=60)))"
    with subprocess.Popen([sys.executable, "-c", server], env=environment()) as process:
        wait_until(beats.exists, seconds=30)
        process.kill()
    asyncio.run(assert_silent(beats))


@LINUX
def test_processes_that_others_started_are_neither_ended_nor_waited_for() -> None:
    with (
        subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo $!; exit 7"], stdout=subprocess.PIPE, text=True) as ended,
        subprocess.Popen(["/bin/sh", "-c", "read line; exit 8"], stdin=subprocess.PIPE, text=True) as running,
    ):
        assert ended.stdout is not None
        orphan = int(ended.stdout.readline())
        asyncio.run(run_argv(["sh", *options("-c", "(sleep 60 &) ; exit 3")], programs=SHELL))
        assert "sleep" in command_line(str(orphan))
        os.kill(orphan, 9)
        assert running.poll() is None
        running.communicate("go\n")
    assert (ended.returncode, running.returncode) == (7, 8)
    subreaper = ctypes.c_int(-1)
    assert ctypes.CDLL(None).prctl(37, ctypes.byref(subreaper), 0, 0, 0) == 0  # PR_GET_CHILD_SUBREAPER
    assert subreaper.value == 0, "the orphans of other children would be the server's"


@pytest.mark.anyio
async def test_an_endless_output_of_a_grandchild_ends_it(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    code = f"{heartbeat(beats)} sleep 0.2; (while :; do echo xxxxxxxxxxxxxxxx; done) & wait"
    finished = await run_argv(["sh", *options("-c", code)], programs=Programs({"sh": "/bin/sh"}, max_output=1000))
    assert finished.truncated
    assert len(finished.stdout) <= 1000
    await assert_silent(beats)


Work = Callable[[], Coroutine[Any, Any, object]]


async def by_asyncio(work: Work, seconds: float) -> None:
    """Cancel as asyncio does: once."""
    task = asyncio.ensure_future(work())
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_anyio(work: Work, seconds: float) -> None:
    """Cancel as anyio does: at every await until the scope is left."""
    with anyio.move_on_after(seconds) as scope:
        await work()
    assert scope.cancelled_caught


@pytest.mark.anyio
@pytest.mark.parametrize("cancel", [by_asyncio, by_anyio])
async def test_cancellation_ends_the_group_and_removes_the_directory(
    tmp_path: Path, cancel: Callable[[Work, float], Coroutine[Any, Any, None]]
) -> None:
    beats, runs = tmp_path / "beats", tmp_path / "runs"
    runs.mkdir()
    code = f"{heartbeat(beats)} wait"
    programs = Programs({"sh": "/bin/sh"}, root=runs)
    await cancel(lambda: run_argv(["sh", *options("-c", code)], programs=programs), 0.5)
    await assert_silent(beats)
    assert os.listdir(runs) == []


@pytest.mark.anyio
async def test_cancellation_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    beats, runs = tmp_path / "beats", tmp_path / "runs"
    runs.mkdir()
    beats.touch()
    code = f"{heartbeat(beats)} wait"
    programs = Programs({"sh": "/bin/sh"}, root=runs)
    for number in range(20):
        await by_asyncio(lambda: run_argv(["sh", *options("-c", code)], programs=programs), number / 2000)
    await anyio.sleep(0.5)
    await assert_silent(beats)
    assert os.listdir(runs) == []


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is Linux only")
@pytest.mark.parametrize("written", ["2", "x", "-1", "9" * 30, "x" * 100_000], ids=lambda text: text[:4])
async def test_a_program_that_writes_into_the_supervisors_report_is_no_crash_of_ours(written: str) -> None:
    """It can reach it as `/proc/<parent>/fd/0`, because both run as one user."""
    code = f"import os; open(f'/proc/{{os.getppid()}}/fd/0', 'w').write({written!r})"
    with pytest.raises(ConfigurationError, match=r"^python could not be started: [A-Z][a-z0-9 ]+$"):
        await run_argv(["python", *options("-c", code)], programs=Programs({"python": sys.executable}))
