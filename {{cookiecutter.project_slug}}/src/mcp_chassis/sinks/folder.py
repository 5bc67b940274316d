"""One open directory. No symbolic link is followed on the way to it or to its files, even while links are swapped.

Each part of the path is opened from the descriptor of the part before, without following links: the directory that was
checked is the directory that is used. Systems whose `open` takes no directory descriptor (Windows) compare paths before
and after instead, and cannot see what happens in between.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

HAS_DESCRIPTORS = {os.open, os.rename, os.unlink} <= os.supports_dir_fd and os.scandir in os.supports_fd
"""Whether this system opens files from the descriptor of a directory."""

DIRECTORY = sum(getattr(os, flag, 0) for flag in ("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"))
"""Flags to open a directory that is not a link."""

# Opening a FIFO must not wait for its other end, and a terminal must not become the server's own.
_FILE = sum(getattr(os, f, 0) for f in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


@dataclass(frozen=True, slots=True)
class Folder:
    """An open directory, and its path for systems without directory descriptors."""

    path: str
    descriptor: int | None

    def open(self, name: str, flags: int) -> int:
        """Return the descriptor of a regular file.

        Raises:
            OSError: also if it is a link, a device, or has a second name (hard link), which may be outside.
        """
        full = os.path.join(self.path, name)
        if self.descriptor is None:
            _refuse_links(full)
        descriptor = os.open(self._name(name), flags | _FILE, 0o600, dir_fd=self.descriptor)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise OSError(errno.EACCES, "not a regular file with one name")
            if self.descriptor is None:
                _refuse_links(full)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def replace(self, name: str, data: bytes) -> None:
        """Write a file in one step: a reader sees all of the old or all of the new content, also after a crash."""
        temporary = f"~{secrets.token_hex(8)}.tmp"  # no caller can name it: `validate_file_path` refuses the tilde
        descriptor = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            names = self._name(temporary), self._name(name)
            os.replace(*names, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException:
            with suppress(OSError):
                self.unlink(temporary)
            raise
        if self.descriptor is not None:
            os.fsync(self.descriptor)  # the new name, too, is on the disk

    def unlink(self, name: str) -> None:
        os.unlink(self._name(name), dir_fd=self.descriptor)

    def has(self, name: str) -> bool:
        try:
            os.stat(self._name(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def names(self) -> Iterator[str]:
        """Yield the names of files, and those of directories with a `/` at the end: no links, no devices."""
        with os.scandir(self.path if self.descriptor is None else self.descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield f"{entry.name}/"
                elif entry.is_file(follow_symlinks=False):
                    yield entry.name

    def _name(self, name: str) -> str:
        return os.path.join(self.path, name) if self.descriptor is None else name


@contextmanager
def opened(root: int | None, directory: str, parts: Iterable[str]) -> Iterator[Folder]:
    """Open a directory below `directory`, whose descriptor is `root` where there are descriptors, and close it.

    Raises:
        OSError: also if one of the parts, none of which may be empty, `.` or `..`, is a link.
    """
    path = os.path.join(directory, *parts)
    if root is None:
        _refuse_links(path)
        yield Folder(path, None)
        return
    descriptor = os.open(".", DIRECTORY, dir_fd=root)  # a duplicate would share its position in listings
    try:
        for part in parts:
            above, descriptor = descriptor, os.open(part, DIRECTORY, dir_fd=descriptor)
            os.close(above)
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _refuse_links(path: str) -> None:
    """Raise OSError if a part of the absolute `path` is a link, a junction or a short name."""
    if os.path.normcase(os.path.realpath(path)) != os.path.normcase(path):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
