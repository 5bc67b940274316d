"""Files below one directory and nowhere else, whatever path a caller sends and however links are swapped meanwhile.

Symbolic links are not followed, wherever they lead: that is the one rule that every system can enforce.
"""

import errno
import heapq
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import PurePosixPath
from typing import IO, Any

from .errors import ConfigurationError, InvalidInput
from .folder import DIRECTORY, HAS_DESCRIPTORS, Folder, opened
from .paths import validate_file_path

_FLAGS = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT, "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL}
# What a caller's choice of path can cause. Any other error (disk full, I/O) is for the operator.
_CALLERS_ERRORS = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}  # absent or impossible
    | {errno.ELOOP, errno.EMLINK, errno.EXDEV, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV}  # forbidden
)


class SafeRoot:
    """Reads and writes files below one directory.

    The directory is opened at the first use and held: replacing it later by a link changes nothing here.

    Args:
        directory: need not exist; the first write makes it. Relative means below the present working directory.
        max_bytes: largest file that is opened or written.
        max_files: most entries that a directory is listed with, and may hold for a new file to be made in it.

    Raises:
        ConfigurationError: if a limit is not positive; of the methods, if the directory itself cannot be used.
    """

    def __init__(self, directory: str | os.PathLike[str], *, max_bytes: int = 1_048_576, max_files: int = 1000) -> None:
        if max_bytes < 1 or max_files < 1:
            raise ConfigurationError("max_bytes and max_files of a SafeRoot must be positive")
        self.directory = os.path.realpath(directory)
        self.max_bytes = max_bytes
        self.max_files = max_files
        self._descriptor: int | None = None
        self._close: Callable[[], object] = lambda: None
        self._opening = threading.Lock()
        self._writing = threading.Lock()  # from counting the files to making one

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
            raise ConfigurationError("mode must be 'r', 'w' or 'x', with or without 'b'")
        path = validate_file_path(relative)
        with nullcontext() if kind == "r" else self._writing, self._folder(path.parent, make=kind != "r") as folder:
            if kind != "r":
                self._refuse_too_many(folder, path.name)
            descriptor = folder.open(path.name, _FLAGS[kind])
            try:
                if kind == "r":
                    self._refuse_oversize(os.fstat(descriptor).st_size)
                elif kind == "w":
                    os.ftruncate(descriptor, 0)  # only now is it known to be a regular file
            except BaseException:
                os.close(descriptor)
                raise
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
        """Write a file in one step: a reader sees all of the old or all of the new text, also after a crash.

        Args:
            relative: path below the root; its directory must exist.
            text: new content.
            overwrite: replace a file of that name. Otherwise one that exists is left alone and refused, and a new one
                is empty between claiming its name and filling it.

        Raises:
            InvalidInput: as `open` does.
        """
        path = validate_file_path(relative)
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidInput("the text is not valid Unicode") from None
        self._refuse_oversize(len(data))
        with self._writing, self._folder(path.parent, make=True) as folder:
            self._refuse_too_many(folder, path.name)
            if not overwrite:
                os.close(folder.open(path.name, _FLAGS["x"]))
            try:
                folder.replace(path.name, data)
            except BaseException:
                if not overwrite:
                    folder.unlink(path.name)
                raise

    def list(self, relative: str = "") -> Sequence[str]:
        """Return the sorted names of the files in a directory, and of its directories with a `/` at the end.

        Args:
            relative: path below the root. Default: the root.

        Raises:
            InvalidInput: as `open` does. A root that does not exist yet is empty.
        """
        parent = validate_file_path(relative) if relative else PurePosixPath()
        with self._opening:
            is_absent = self._is_unopened() and not os.path.isdir(self.directory)
        if not relative and is_absent:
            return []
        with self._folder(parent) as folder:
            return heapq.nsmallest(self.max_files, _usable_names(folder))

    @contextmanager
    def _folder(self, parent: PurePosixPath, *, make: bool = False) -> Iterator[Folder]:
        """Open a directory, and turn the errors of its use into InvalidInput."""
        try:
            with self._root(make=make) as root, opened(root, self.directory, parent.parts) as folder:
                yield folder
        except FileExistsError:
            raise InvalidInput("there is a file of that name already") from None
        except OSError as error:
            if error.errno not in _CALLERS_ERRORS:
                raise
            raise InvalidInput("there is no such file, or it cannot be used here") from None

    def _is_unopened(self) -> bool:
        """Whether the root was not opened yet, or was deleted since."""
        return self._descriptor is None or os.fstat(self._descriptor).st_nlink == 0

    @contextmanager
    def _root(self, *, make: bool) -> Iterator[int | None]:
        """Open the root, where a directory can be held; each user gets a descriptor of its own."""
        with self._opening:
            if self._is_unopened():
                try:
                    self._open_root(make=make)
                except OSError as error:
                    if isinstance(error, FileNotFoundError) and not make:
                        raise
                    raise ConfigurationError(f"the directory of a SafeRoot cannot be used: {error.strerror}") from error
            descriptor_of_user = os.dup(self._descriptor) if self._descriptor is not None else None
        try:
            yield descriptor_of_user
        finally:
            if descriptor_of_user is not None:
                os.close(descriptor_of_user)

    def _open_root(self, *, make: bool) -> None:
        if make:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
        if HAS_DESCRIPTORS:
            descriptor = os.open(self.directory, DIRECTORY)
            self._close()  # that of a directory that was deleted
            self._descriptor = descriptor
            self._close = weakref.finalize(self, os.close, descriptor)
        else:
            os.scandir(self.directory).close()

    def _refuse_oversize(self, size: int) -> None:
        if size > self.max_bytes:
            raise InvalidInput(f"the file is larger than {self.max_bytes} bytes")

    def _refuse_too_many(self, folder: Folder, name: str) -> None:
        if not folder.has(name) and sum(1 for _ in _usable_names(folder)) >= self.max_files:
            raise InvalidInput(f"the directory holds {self.max_files} files already")


def _usable_names(folder: Folder) -> Iterator[str]:
    """Yield the names that `open` and `list` take."""
    for name in folder.names():
        with suppress(InvalidInput):
            validate_file_path(name.removesuffix("/"))
            yield name
