"""Starts a program without a shell, with nothing but what it was given, and ends it with everything it started.

On Linux that is everything that came from it, whatever it did to get away: a supervisor starts the program, see
`supervisor.py`. On macOS it is the program's process group, which a program leaves with `setsid`; on Windows it is the
program alone. A program that runs as the server's own user can end the supervisor, as it can end the server.
"""

import asyncio
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import anyio
import anyio.to_thread

from .errors import CommandError, InvalidInput
from .text import check_argument

# With a search path, because programs look up their helpers without one in places of their own choice, the working
# directory among them. Nothing else of the server's environment: it holds the server's secrets.
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
if sys.platform == "win32":
    _ENVIRONMENT["SYSTEMROOT"] = os.environ.get("SYSTEMROOT", r"C:\Windows")  # without it no DLL is found
_SUPERVISOR = (sys.executable, "-IS", "-Xutf8", str(Path(__file__).with_name("supervisor.py")))
_END_SECONDS = 10.0
_DRAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs that may be started, and within which limits.

    Args:
        paths: name and absolute path of each; None (from `shutil.which`) for one that is not installed.
        environment: what the programs get beside a search path and a UTF-8 locale.
        root: directory below which each run gets a fresh, private working directory. Default: the system's own.
        timeout: seconds until a run is ended.
        max_output: bytes of each of the two outputs at which a run is ended.

    Raises:
        ValueError: if a path is not absolute, or is a batch file: Windows runs those in a shell (CVE-2024-24576).
    """

    paths: Mapping[str, str | None]
    environment: Mapping[str, str] = field(default_factory=dict)
    root: str | os.PathLike[str] | None = None
    timeout: float = 10.0
    max_output: int = 262_144

    def __post_init__(self) -> None:
        for name, path in self.paths.items():
            if path is not None and not Path(path).is_absolute():
                raise ValueError(f"the path of {name} must be absolute")
            if path is not None and path.rstrip(". ").lower().endswith((".bat", ".cmd")):
                raise ValueError(f"{name} is a batch file: start the program that it starts")


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left.

    `code` is its exit code, negative if a signal ended it; `truncated` says that it was ended for writing too much.
    """

    code: int
    stdout: str
    stderr: str
    truncated: bool


class _Option(str):
    """A word of a command line that its author wrote, and that may therefore start with a dash."""

    __slots__ = ()


def options(*words: str) -> tuple[str, ...]:
    """Mark words as the author's own. Never a word from a caller."""
    return tuple(_Option(word) for word in words)


async def run_argv(argv: Sequence[str], *, programs: Programs) -> Finished:
    """Run a program and return what it wrote: `await run_argv(["wc", *options("-w", "--"), name], programs=...)`.

    Every word that is not marked by `options` is a value, and no value may start with a dash. End the options with
    `--` as well, for programs that know it: two locks are better than one.

    Args:
        argv: the program's name in `programs`, then its options and values.
        programs: what may be started, and the limits.

    Raises:
        InvalidInput: if a value starts with a dash or is no argument for another reason (see `check_argument`).
        CommandError: if the program is not allowed, not installed, cannot be started or does not end in time.
    """
    name = argv[0]
    command = [_path(name, programs), *(word if isinstance(word, _Option) else _value(word) for word in argv[1:])]
    directory = tempfile.mkdtemp(dir=programs.root, prefix="run-")
    try:
        return await _run(name, command, directory, programs)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(functools.partial(shutil.rmtree, directory, ignore_errors=True))


def _path(name: str, programs: Programs) -> str:
    if name not in programs.paths:
        raise CommandError("That program is not allowed here.")
    if (path := programs.paths[name]) is None:
        raise CommandError(f"{name} is not installed on the server.")
    return path


def _value(word: str) -> str:
    try:
        if check_argument(word) == word:
            return word
        raise InvalidInput("it is not in Unicode's normal form NFC")
    except InvalidInput as error:
        raise InvalidInput(f"an argument of the command is refused: {error}") from None


class _Child(asyncio.SubprocessProtocol):
    """Collects what a program writes, up to a limit, and ends it."""

    def __init__(self, max_output: int) -> None:
        self.output = {1: bytearray(), 2: bytearray()}
        self.truncated = False
        self.closed = asyncio.Event()
        self._max_output = max_output
        self._transport: asyncio.SubprocessTransport | None = None
        self._stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        if self._stopped:
            self.stop()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        room = self._max_output - len(self.output[fd])
        self.output[fd] += data[:room]
        if len(data) > room:
            self.truncated = True
            self.stop()

    def process_exited(self) -> None:
        self.stop()
        if self._transport is not None:  # its output is still in the pipes; others may keep them open
            asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def stop(self) -> None:
        """End the program and what came from it, now or as soon as it is there. Safe to call when all are gone."""
        self._stopped = True
        if self._transport is None:
            return
        pid, ended = self._transport.get_pid(), self._transport.get_returncode() is not None
        # The number of a group is the group's as long as one of it lives, and not given away for a long time after.
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            if sys.platform != "linux" and sys.platform != "win32":
                os.killpg(pid, signal.SIGKILL)
            elif not ended:
                os.kill(pid, signal.SIGTERM)  # on Windows there is no handling it


async def _run(name: str, command: list[str], directory: str, programs: Programs) -> Finished:
    child, late = _Child(programs.max_output), False
    with tempfile.TemporaryFile(dir=directory) as report:
        running = asyncio.ensure_future(_until_closed(child, command, directory, programs, report))
        try:
            async with asyncio.timeout(programs.timeout):
                code = await asyncio.shield(running)
            report.seek(0)
            if error := report.read():
                raise OSError(int(error), os.strerror(int(error)))
        except TimeoutError:
            late = True
        except OSError as error:
            raise CommandError(f"{name} could not be started: {error.strerror}.") from None
        finally:
            child.stop()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([running], timeout=_END_SECONDS)
    if late:
        end = "was ended" if running.done() else "cannot be ended"
        raise CommandError(f"{name} did not finish in {programs.timeout:g} seconds and {end}.")
    stdout, stderr = (child.output[number].decode("utf-8", "replace") for number in (1, 2))
    return Finished(code, stdout, stderr, child.truncated)


async def _until_closed(
    child: _Child, command: list[str], directory: str, programs: Programs, report: IO[bytes]
) -> int:
    own = {"HOME": directory, "TMPDIR": directory, "TEMP": directory, "TMP": directory}
    supervised = sys.platform == "linux"
    transport, _ = await asyncio.get_running_loop().subprocess_exec(
        lambda: child,
        *((*_SUPERVISOR, str(os.getpid())) if supervised else ()),
        *command,
        stdin=report if supervised else subprocess.DEVNULL,
        cwd=directory,
        env=_ENVIRONMENT | own | dict(programs.environment),
        start_new_session=True,  # on Windows this does nothing, and only the program itself is ended
        close_fds=True,
    )
    await child.closed.wait()
    transport.close()
    return transport.get_returncode() or 0
