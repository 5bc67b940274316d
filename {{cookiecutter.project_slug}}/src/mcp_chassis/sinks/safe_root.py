"""Files below one directory and nowhere else, whatever a caller says and whoever moves links about meanwhile.

Symbolic links are not followed, wherever they lead: that is the one rule which every system can keep.
"""

import errno
import heapq
import os
import secrets
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from .beneath import DESCRIPTORS, open_directory, open_root, refuse_links
from .errors import InvalidInput
from .paths import validate_file_path

# Opening a FIFO must not wait for its other end, nor a terminal become ours.
_SAFE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_FLAGS = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT, "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL}
# What a caller's choice of path can bring about. Anything else (disk full, I/O error) is the operator's to hear of.
_UNAVAILABLE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}  # absent or impossible
    | {errno.ELOOP, errno.EMLINK, errno.EXDEV, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV}  # forbidden
)


@dataclass(frozen=True, slots=True)
class _Folder:
    """An open directory: by descriptor where the system can, else by path."""

    descriptor: int | None
    path: str

    def name(self, name: str) -> str:
        """What to call a file in it: a bare name beside a descriptor, else the whole path."""
        return name if self.descriptor is not None else os.path.join(self.path, name)


class SafeRoot:
    """Reads and writes files below one directory.

    The directory is opened at the first use and held: whoever replaces it later by a link changes nothing here.

    Args:
        directory: need not exist; the first write makes it. Relative means below the present working directory.
        max_bytes: largest file that is opened or written.
        max_files: most entries that a directory is listed with, and may hold for a new file to be made in it.
    """

    def __init__(self, directory: str | os.PathLike[str], *, max_bytes: int = 1_048_576, max_files: int = 1000) -> None:
        self.directory = os.path.realpath(directory)
        self.max_bytes = max_bytes
        self.max_files = max_files
        self._descriptor: int | None = None
        self._opening = threading.Lock()

    def open(self, relative: str, mode: str = "r") -> IO[Any]:
        """Open a regular file, as text in UTF-8 or, with a `b` in the mode, as bytes.

        Args:
            relative: path below the root, with forward slashes.
            mode: `r`, `w` or `x`, and `b` or nothing. `write_text` is the better `w`: readers never see half a file.

        Raises:
            InvalidInput: with one message for what is absent, forbidden, a link, a device, or has a second name (hard
                link) that may be outside; with others for a path that no file can have and for a file over the limit.
        """
        kind = mode.replace("b", "", 1)
        if kind not in _FLAGS:
            raise ValueError("mode must be 'r', 'w' or 'x', with or without 'b'")
        path = validate_file_path(relative)
        with self._folder(path.parent, make=kind != "r") as folder:
            descriptor = self._open_file(folder, path.name, _FLAGS[kind])
            if kind == "w":
                os.ftruncate(descriptor, 0)  # only now: what else it might have been is ruled out
        return os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8")

    def read_text(self, relative: str) -> str:
        """Return the text of a file.

        Raises:
            InvalidInput: as `open` does, and if the file is not UTF-8.
        """
        with self.open(relative, "rb") as file:
            data: bytes = file.read(self.max_bytes + 1)
        self._refuse_oversize(len(data))  # it may have grown since it was opened
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidInput("the file is not text in UTF-8") from None

    def write_text(self, relative: str, text: str, *, overwrite: bool = True) -> None:
        """Write a file at once: whoever reads it sees all of the old or all of the new text, also after a crash.

        Args:
            relative: path below the root; its directory must exist.
            text: new content.
            overwrite: replace a file of that name. Otherwise one that exists is left alone and refused, and a new one
                is empty for the moment between claiming its name and filling it.

        Raises:
            InvalidInput: as `open` does.
        """
        path = validate_file_path(relative)
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidInput("the text is not valid Unicode") from None
        self._refuse_oversize(len(data))
        with self._folder(path.parent, make=True) as folder:
            if overwrite:
                self._refuse_too_many(folder, path.name)
                _replace(folder, path.name, data)
                return
            os.close(self._open_file(folder, path.name, _FLAGS["x"]))
            try:
                _replace(folder, path.name, data)
            except BaseException:
                os.unlink(folder.name(path.name), dir_fd=folder.descriptor)
                raise

    def list(self, relative: str = "") -> Sequence[str]:
        """Return the sorted names of the files in a directory, and of its directories with a `/` behind.

        Args:
            relative: path below the root. Default: the root.

        Raises:
            InvalidInput: as `open` does. A root that does not exist yet is empty.
        """
        parent = validate_file_path(relative) if relative else PurePosixPath()
        if not relative and self._unopened() and not os.path.isdir(self.directory):
            return []
        with self._folder(parent) as folder:
            return heapq.nsmallest(self.max_files, _entries(folder))

    @contextmanager
    def _folder(self, parent: PurePosixPath, *, make: bool = False) -> Iterator[_Folder]:
        """Hold a directory, and turn what its use raises into the one message."""
        folder = None
        try:
            path = os.path.join(self.directory, *parent.parts)
            root = self._root(make=make)
            folder = _Folder(None if root is None else open_directory(root, parent.parts), path)
            if root is None:
                refuse_links(path)
            yield folder
        except FileExistsError:
            raise InvalidInput("there is a file of that name already") from None
        except OSError as error:
            if error.errno not in _UNAVAILABLE:
                raise
            raise InvalidInput("there is no such file, or it cannot be used here") from None
        finally:
            if folder is not None and folder.descriptor is not None:
                os.close(folder.descriptor)

    def _unopened(self) -> bool:
        """Whether the root was not opened yet, or deleted since."""
        return self._descriptor is None or os.fstat(self._descriptor).st_nlink == 0

    def _root(self, *, make: bool) -> int | None:
        with self._opening:
            if self._unopened():
                if make:
                    os.makedirs(self.directory, mode=0o700, exist_ok=True)
                if DESCRIPTORS:
                    self._descriptor = open_root(self.directory)
                    weakref.finalize(self, os.close, self._descriptor)
            return self._descriptor

    def _open_file(self, folder: _Folder, name: str, flags: int) -> int:
        if flags & os.O_CREAT:
            self._refuse_too_many(folder, name)
        full = os.path.join(folder.path, name)
        if folder.descriptor is None:
            refuse_links(full)
        descriptor = os.open(folder.name(name), flags | _SAFE, 0o600, dir_fd=folder.descriptor)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise OSError(errno.EACCES, "not a regular file with one name")
            if folder.descriptor is None:
                refuse_links(full)
            if not flags & os.O_WRONLY:
                self._refuse_oversize(status.st_size)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _refuse_oversize(self, size: int) -> None:
        if size > self.max_bytes:
            raise InvalidInput(f"the file is larger than {self.max_bytes} bytes")

    def _refuse_too_many(self, folder: _Folder, name: str) -> None:
        if not _exists(folder, name) and sum(1 for _ in _entries(folder)) >= self.max_files:
            raise InvalidInput(f"the directory holds {self.max_files} files already")


def _replace(folder: _Folder, name: str, data: bytes) -> None:
    # No caller can name it: `validate_file_path` refuses the tilde.
    temporary = folder.name(f"~{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, _FLAGS["x"] | _SAFE, 0o600, dir_fd=folder.descriptor)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, folder.name(name), src_dir_fd=folder.descriptor, dst_dir_fd=folder.descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder.descriptor)
        raise
    if folder.descriptor is not None:
        os.fsync(folder.descriptor)  # the new name, too, is on the disk


def _exists(folder: _Folder, name: str) -> bool:
    try:
        os.stat(folder.name(name), dir_fd=folder.descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _entries(folder: _Folder) -> Iterator[str]:
    """Yield what can be opened by name: no links, no devices, no names that a path cannot have."""
    with os.scandir(folder.path if folder.descriptor is None else folder.descriptor) as entries:
        for entry in entries:
            with suppress(InvalidInput):
                validate_file_path(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    yield f"{entry.name}/"
                elif entry.is_file(follow_symlinks=False):
                    yield entry.name
