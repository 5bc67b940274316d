"""How a directory below a root becomes a descriptor without a symbolic link on the way, even while links are swapped.

On Linux the kernel does it in one step: openat2(2), which is refused by old kernels and some sandboxes. Elsewhere each
part is opened from the descriptor of the one before, without following links: what was checked is what is held, so
there is no moment between check and use. Systems whose `open` takes no directory (Windows) get `refuse_links`.
"""

import ctypes
import errno
import functools
import os
import sys

DESCRIPTORS = {os.open, os.rename, os.unlink} <= os.supports_dir_fd and os.scandir in os.supports_fd
"""Whether this system opens from a directory's descriptor."""

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_SYS_OPENAT2 = 437  # on every architecture: system calls are numbered alike since 424
# linux/openat2.h. NO_SYMLINKS includes them, but magic links (those of /proc) stay out if somebody relaxes it.
_RESOLVE = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS, NO_SYMLINKS, BENEATH


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_root(path: str) -> int:
    """Return a descriptor of the directory at `path`, whose last part must not be a link."""
    return os.open(path, _DIRECTORY)


def open_directory(root: int, parts: tuple[str, ...]) -> int:
    """Return a new descriptor of a directory below the one that `root` holds.

    Args:
        root: descriptor of a directory.
        parts: names, none of them empty, `.` or `..`.

    Raises:
        OSError: also if a part is a symbolic link.
    """
    if not parts:
        return os.open(".", _DIRECTORY, dir_fd=root)  # a duplicate would share its place in the listing
    return _openat2(root, "/".join(parts)) if has_openat2() else _walk(root, parts)


@functools.cache
def has_openat2() -> bool:
    """Whether the kernel and its sandbox let us call openat2."""
    if sys.platform != "linux":
        return False
    root = open_root("/")
    try:
        os.close(_openat2(root, "."))
    except OSError:  # ENOSYS: before Linux 5.6; EPERM: seccomp profiles that do not know the call
        return False
    finally:
        os.close(root)
    return True


def _openat2(root: int, path: str) -> int:
    how = _OpenHow(flags=_DIRECTORY, resolve=_RESOLVE)
    while True:
        descriptor = ctypes.CDLL(None, use_errno=True).syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(root),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if descriptor >= 0:
            return int(descriptor)
        if (number := ctypes.get_errno()) != errno.EINTR:
            raise OSError(number, os.strerror(number))


def _walk(root: int, parts: tuple[str, ...]) -> int:
    descriptor = os.dup(root)
    for part in parts:
        try:
            below = os.open(part, _DIRECTORY, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def refuse_links(path: str) -> None:
    """Raise OSError if a part of the absolute `path` is a link, a junction or a short name.

    It compares before and after, and what happens between cannot be seen: a fence, where the descriptors are a wall.
    """
    if os.path.normcase(os.path.realpath(path)) != os.path.normcase(path):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
