"""Starts a program without a shell, with nothing but what it was given, and ends it with everything it started."""

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

import anyio
import anyio.to_thread

from .errors import CommandError, InvalidInput
from .text import check_argument

# With a search path, because programs look up their helpers without one in places of their own choice, the working
# directory among them. Nothing else of the server's environment: it holds the server's secrets.
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
if sys.platform == "win32":
    _ENVIRONMENT["SYSTEMROOT"] = os.environ.get("SYSTEMROOT", r"C:\Windows")  # without it no DLL is found
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
    """Collects what a program writes, up to a limit."""

    def __init__(self, max_output: int) -> None:
        self.output = {1: bytearray(), 2: bytearray()}
        self.truncated = False
        self.ended = asyncio.Event()
        self.closed = asyncio.Event()
        self._max_output = max_output

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        room = self._max_output - len(self.output[fd])
        self.output[fd] += data[:room]
        if len(data) > room:
            self.truncated = True
            self.ended.set()

    def process_exited(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


async def _run(name: str, command: list[str], directory: str, programs: Programs) -> Finished:
    starting = asyncio.ensure_future(_start(command, directory, programs))
    try:
        transport, child = await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_end_late)
        raise
    except OSError as error:
        raise CommandError(f"{name} could not be started: {error.strerror}.") from None
    try:
        async with asyncio.timeout(programs.timeout):
            await child.ended.wait()
    except TimeoutError:
        raise CommandError(f"{name} did not finish in {programs.timeout:g} seconds and was ended.") from None
    finally:
        _end_group(transport)
        # Nobody of its group can write any more, but what was written is still in the pipes. Whoever left the group
        # and keeps them open is not waited for.
        with anyio.move_on_after(_DRAIN_SECONDS, shield=True):
            await child.closed.wait()
        transport.close()
    stdout, stderr = (child.output[number].decode("utf-8", "replace") for number in (1, 2))
    code = transport.get_returncode()
    return Finished(-signal.SIGTERM if code is None else code, stdout, stderr, child.truncated)


async def _start(command: list[str], directory: str, programs: Programs) -> tuple[asyncio.SubprocessTransport, _Child]:
    own = {"HOME": directory, "TMPDIR": directory, "TEMP": directory, "TMP": directory}
    return await asyncio.get_running_loop().subprocess_exec(
        functools.partial(_Child, programs.max_output),
        *command,
        stdin=subprocess.DEVNULL,
        cwd=directory,
        env=_ENVIRONMENT | own | dict(programs.environment),
        start_new_session=True,  # on Windows this does nothing, and only the program itself is ended
        close_fds=True,
    )


def _end_group(transport: asyncio.SubprocessTransport) -> None:
    """Kill a program and whatever it started that stayed in its group. Safe to call when all of them are gone."""
    if sys.platform == "win32":
        if transport.get_returncode() is None:
            transport.kill()
        return
    # The number is the group's as long as one of it lives, and is not given away for a long time after that.
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(transport.get_pid(), signal.SIGKILL)


def _end_late(starting: asyncio.Future[tuple[asyncio.SubprocessTransport, _Child]]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        transport, _ = starting.result()
        _end_group(transport)
        transport.close()
