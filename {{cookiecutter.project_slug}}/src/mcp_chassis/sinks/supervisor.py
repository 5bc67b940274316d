"""Runs one program and, when it or its time ends, ends all its descendants. Linux only; `run_argv` starts it.

It is a process of its own because it adopts orphans (`PR_SET_CHILD_SUBREAPER`, see prctl(2)), and in the server that
would also catch the orphans of others. It only kills children that it has not yet waited for, so their process numbers
cannot have been reused. Grandchildren become its own children when their parents end: neither `setsid` nor a double
fork escapes. It is a script that imports little, because each run pays for its start.

    supervisor.py SERVER PROGRAM [ARGUMENT...]

SIGTERM ends the run, and so does the end of SERVER, the process that started this one. It exits as the program did,
with the same code or signal. If the program cannot be started, it writes the error number to descriptor 0.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress

if sys.platform != "linux":
    raise ImportError("Only Linux can hand orphans to a process other than init.")

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_WATCHED = {signal.SIGCHLD, signal.SIGTERM}


def main(server: int, program: list[str]) -> int:
    """Run the program and return its code, negative if a signal ended it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    _prctl(_SET_CHILD_SUBREAPER, 1)
    _prctl(_SET_PDEATHSIG, signal.SIGTERM)
    children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    if os.getppid() != server:  # it ended before its end could be noticed
        os.kill(os.getpid(), signal.SIGTERM)
    started = os.posix_spawn(
        program[0],
        program,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these two
    )
    codes: dict[int, int] = {}
    while started not in codes and signal.sigwait(_WATCHED) == signal.SIGCHLD:
        _reap(codes)
    while _reap(codes):
        # The dead are waited for when all are dead: until then they keep the places in a full process table that others
        # would fork into.
        killed: set[int] = set()
        while living := [
            child for child in map(int, os.pread(children, 1 << 20, 0).split()) if child not in killed or _lives(child)
        ]:
            for child in living:
                with suppress(ProcessLookupError, PermissionError):  # it has ended, or has become another user
                    os.killpg(os.getpgid(child), signal.SIGKILL)  # in one step: forking inside the group does not help
                    os.kill(child, signal.SIGKILL)
            killed.update(living)
            signal.sigtimedwait({signal.SIGCHLD}, 0.01)
    return codes[started]


def _lives(child: int) -> bool:
    try:
        with open(f"/proc/{child}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:  # it has become another user, whom /proc hides
        return True


def _reap(codes: dict[int, int]) -> bool:
    """Wait for the children that have ended, note their codes, and return whether there are others."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            codes.setdefault(ended[0], os.waitstatus_to_exitcode(ended[1]))
    except ChildProcessError:
        return False
    return True


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    try:
        code = main(int(sys.argv[1]), sys.argv[2:])
    except OSError as error:
        os.write(0, str(error.errno).encode())
        sys.exit(1)
    if code < 0:
        with suppress(OSError):  # SIGKILL cannot be set
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        os.kill(os.getpid(), -code)
    os._exit(code)  # without the few milliseconds that Python takes to clean up
