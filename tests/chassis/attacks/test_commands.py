"""Arguments that want to be commands or options, and programs that want to outlive their call."""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_chassis.sinks import (
    CommandError,
    InvalidInput,
    Programs,
    options,
    run_argv,
)

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
    """Return shell text that writes to `path` for ever, in a process of its own, holding the pipes."""
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


@pytest.mark.anyio
@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid")
async def test_a_grandchild_that_left_the_group_and_holds_the_pipes_is_not_waited_for(tmp_path: Path) -> None:
    code = f"echo done; setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 20' & sleep 0.3"
    started = time.monotonic()
    finished = await run_argv(["sh", *options("-c", code)], programs=SHELL)
    assert time.monotonic() - started < 4
    assert finished.stdout == "done\n"
    os.kill(int((tmp_path / "pid").read_text()), 9)


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
