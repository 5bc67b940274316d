"""A lock on an open file. It keeps other processes out, and ends with the process that holds it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_UNUSED_OFFSET = 1 << 40  # Windows also denies reading what is locked


@contextmanager
def locked(descriptor: int, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock while the block runs.

    Raises:
        OSError: if another process holds it: at once without `wait`; with it, on Windows only, after ten seconds.
    """
    if sys.platform == "win32":
        os.lseek(descriptor, _UNUSED_OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    try:
        yield
    finally:
        if sys.platform == "win32":
            os.lseek(descriptor, _UNUSED_OFFSET, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
