"""The pure check of a relative path. It sees text, not the disk: opening below a root is the real defence."""

import re
from pathlib import PurePosixPath

from .errors import InvalidInput

_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{name}{digit}" for name in ("com", "lpt") for digit in "0123456789¹²³"}
)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f<>"|?*:\\]')


def validate_file_path(path: str, *, max_length: int = 255) -> PurePosixPath:
    """Return `path` as a relative path that stays below whatever directory it is joined to, on every system.

    What it cannot see: symbolic links, mounts, and what another process changes between this check and the opening.

    Args:
        path: relative, with forward slashes.
        max_length: longest accepted path, in characters.

    Raises:
        InvalidInput: naming the rule, not the path.
    """
    if not path:
        raise InvalidInput("the path is empty")
    if len(path) > max_length:
        raise InvalidInput(f"the path is longer than {max_length} characters")
    if _FORBIDDEN.search(path):
        # The colon covers drive letters and NTFS alternate streams, the backslash Windows separators and UNC paths.
        raise InvalidInput('the path holds a control character, a backslash or one of < > " | ? * :')
    if path.startswith("/"):
        raise InvalidInput("the path must be relative")
    for part in path.split("/"):
        _check_part(part)
    return PurePosixPath(path)


def _check_part(part: str) -> None:
    if part in {"", ".", ".."}:
        raise InvalidInput("the path has an empty part, '.' or '..'")
    if part.startswith("~"):
        raise InvalidInput("a part of the path starts with '~'")
    if part[-1] in ". " or part[0] == " ":
        # Windows drops trailing dots and spaces: `secret.` and `secret` are one file there.
        raise InvalidInput("a part of the path starts or ends with a space, or ends with a dot")
    if part.partition(".")[0].rstrip().lower() in _DEVICES:
        raise InvalidInput("a part of the path is a device name on Windows")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in part):
        raise InvalidInput("the path is not valid Unicode")
