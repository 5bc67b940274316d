"""Which other users of this machine could read or change the files that hold secrets, for `check`."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_ROOT = 0
READ_OR_WRITE = 0o077
"""For secrets: no right of the group or of others."""
WRITE_OR_READ_BY_ALL = 0o026
"""For what a group may be meant to read, such as that of a log collector."""


def too_open(path: Path, forbidden: int) -> Iterator[str]:
    """Yield what is wrong with the rights of a file and of its directory, each with what to do.

    A missing file is fine. So is one on a read-only mount, as containers and systemd provide secrets: no program here
    can change it, and its readers are decided outside.

    Args:
        path: the file; of a link, what it leads to.
        forbidden: mode bits that it must not have.
    """
    if os.name != "posix" or not path.exists() or os.statvfs(path).f_flag & os.ST_RDONLY:
        return
    path = path.resolve()
    found = path.stat()
    if found.st_mode & forbidden:
        mode = found.st_mode & ~forbidden & 0o777
        yield f"others on this machine may read or change {path}. Run: chmod {mode:o} {path}"
    directory = path.parent.stat()
    # With the sticky bit, as in /tmp, only owners replace files. The own primary group is commonly that of one user.
    writers = stat.S_IWOTH | (stat.S_IWGRP if directory.st_gid != os.getegid() else 0)
    if directory.st_mode & writers and not directory.st_mode & stat.S_ISVTX:
        yield f"others on this machine may replace {path}. Run: chmod go-w {path.parent}"
    for place, owner in ((path, found.st_uid), (path.parent, directory.st_uid)):
        if owner not in {_ROOT, os.geteuid()}:
            yield f"{place} belongs to the user {owner}: chown it to the server's user, and run check as that one."
