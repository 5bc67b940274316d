"""Starts a program without a shell and without the server's environment, and ends it with everything it started.

On Linux that is every descendant: a supervisor starts the program, see `supervisor.py`. On macOS it is the program's
process group, which a program leaves with `setsid`; on Windows it is the program alone. A program that runs as the
server's own user can end the supervisor, as it can end the server.
"""

import asyncio
import errno
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
from typing import cast

import anyio

from .errors import CommandError, ConfigurationError, InvalidInput
from .text import check_argument

# With a search path, because without one programs look up their helpers in the working directory and elsewhere. Nothing
# else of the server's environment: it holds the server's secrets.
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
        ConfigurationError: if a path is not absolute, or is a batch file: Windows runs those in a shell
            (CVE-2024-24576); if a limit is not positive.
    """

    paths: Mapping[str, str | None]
    environment: Mapping[str, str] = field(default_factory=dict)
    root: str | os.PathLike[str] | None = None
    timeout: float = 10.0
    max_output: int = 262_144

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.max_output < 1:
            raise ConfigurationError("timeout and max_output of Programs must be positive")
        for name, path in self.paths.items():
            if path is not None and not Path(path).is_absolute():
                raise ConfigurationError(f"the path of {name} must be absolute")
            if path is not None and path.rstrip(". ").lower().endswith((".bat", ".cmd")):
                raise ConfigurationError(f"{name} is a batch file: start the program that it starts")


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a program."""

    code: int  # its exit code, negative if a signal ended it
    stdout: str
    stderr: str
    truncated: bool  # whether it was ended for writing too much


class _Option(str):
    """A word of a command line that its author wrote, and that may start with a dash."""


def options(*words: str) -> tuple[str, ...]:
    """Mark words as the author's own. Never a word from a caller."""
    return tuple(_Option(word) for word in words)


async def run_argv(argv: Sequence[str], *, programs: Programs) -> Finished:
    """Run a program and return what it wrote: `await run_argv(["wc", *options("-w", "--"), name], programs=...)`.

    The first word is the program's name in `programs`. Every other word that is not marked by `options` is a value, and
    no value may start with a dash. End the options with `--` as well, for programs that know it.

    Raises:
        InvalidInput: if a value starts with a dash or is no argument for another reason (see `check_argument`).
        ConfigurationError: if the program is not allowed, not installed or cannot be started.
        CommandError: if it does not end in time.
    """
    name = argv[0]
    if name not in programs.paths:
        raise ConfigurationError("the program is not among those that may be started")
    if (path := programs.paths[name]) is None:
        raise ConfigurationError(f"{name} is not installed on the server")
    command = [path, *(word if isinstance(word, _Option) else _value(word) for word in argv[1:])]
    directory = tempfile.mkdtemp(dir=programs.root, prefix="run-")
    try:
        return await _run(name, command, directory, programs)
    finally:
        with anyio.CancelScope(shield=True):
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _value(word: str) -> str:
    try:
        if check_argument(word) == word:
            return word
        raise InvalidInput("it is not in Unicode's normal form NFC")
    except InvalidInput as error:
        raise InvalidInput(f"an argument of the command is refused: {error}") from None


class _Child(asyncio.SubprocessProtocol):
    """Collects the output of a program, up to a limit, and ends the program."""

    def __init__(self, max_output: int) -> None:
        self.output = {1: bytearray(), 2: bytearray()}
        self.truncated = False
        self._closed = asyncio.Event()
        self._max_output = max_output
        self._transport: asyncio.SubprocessTransport | None = None
        self._is_stopped = False

    async def run(self, command: Sequence[str], directory: str, environment: Mapping[str, str], stdin: int) -> int:
        """Run the program until it has ended and its output is closed, and return its code. Never cancel it."""
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: self,
            *command,
            stdin=stdin,
            cwd=directory,
            env=environment,
            start_new_session=True,  # on Windows this does nothing, and only the program itself is ended
        )
        await self._closed.wait()
        transport.close()
        return transport.get_returncode() or 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        if self._is_stopped:
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
        self._closed.set()

    def stop(self) -> None:
        """End the program and its descendants, now or as soon as it has started. Safe to call when all have ended."""
        self._is_stopped = True
        if self._transport is None:
            return
        pid, ended = self._transport.get_pid(), self._transport.get_returncode() is not None
        # The number of a group is the group's as long as one of it lives, and not given away for a long time after.
        with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a group of zombies
            if sys.platform != "linux" and sys.platform != "win32":
                os.killpg(pid, signal.SIGKILL)
            elif not ended:
                os.kill(pid, signal.SIGTERM)  # on Windows there is no handling it


async def _run(name: str, command: list[str], directory: str, programs: Programs) -> Finished:
    child = _Child(programs.max_output)
    temporary = {"HOME": directory, "TMPDIR": directory, "TEMP": directory, "TMP": directory}
    environment = _ENVIRONMENT | temporary | dict(programs.environment)
    with tempfile.TemporaryFile(dir=directory) as report:
        stdin = subprocess.DEVNULL
        if sys.platform == "linux":
            command, stdin = [*_SUPERVISOR, str(os.getpid()), *command], report.fileno()
        running = asyncio.ensure_future(child.run(command, directory, environment, stdin))
        try:
            late = not (await asyncio.wait([running], timeout=programs.timeout))[0]
        finally:
            child.stop()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([running], timeout=_END_SECONDS)
        if late:
            end = "was ended" if running.done() else "cannot be ended"
            raise CommandError(f"{name} did not finish in {programs.timeout:g} seconds and {end}.")
        try:
            code = running.result()
            report.seek(0)
            if error := report.read(4):  # a program can reach this file, as it can end the supervisor
                raise OSError(int(error) if error.isdigit() else errno.EPROTO, "")
        except OSError as error:
            raise ConfigurationError(f"{name} could not be started: {os.strerror(error.errno or 0)}") from None
    stdout, stderr = (child.output[number].decode("utf-8", "replace") for number in (1, 2))
    return Finished(code, stdout, stderr, child.truncated)
