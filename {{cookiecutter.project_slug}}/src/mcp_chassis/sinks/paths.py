"""The pure check of a relative path. It sees text, not the disk: opening below a root is the real defence."""

import re
import unicodedata
from pathlib import PurePosixPath

from .errors import InvalidInput
from .hidden import find_hidden

# Names that open devices in every directory of Windows, with any extension. Superscript digits count there.
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{name}{digit}" for name in ("com", "lpt") for digit in "0123456789¹²³"}
)
# The colon covers drive letters and NTFS alternate streams, the backslash Windows separators and UNC paths.
_FORBIDDEN = re.compile(r'[\t\n\r<>"|?*:\\]')
_PERCENT_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


def validate_file_path(path: str, *, max_length: int = 255) -> PurePosixPath:
    """Return `path` as a relative path that stays below whatever directory it is joined to, on every system.

    What it cannot see: symbolic links, mounts, and what another process changes between this check and the opening.
    A handle is the real defence: `SafeRoot` opens below one directory and calls this first.

    Args:
        path: relative, with forward slashes.
        max_length: longest accepted path, in characters.

    Raises:
        InvalidInput: naming the rule, not the path.
    """
    if len(path) > max_length:
        raise InvalidInput(f"the path is longer than {max_length} characters")
    if _FORBIDDEN.search(path) or find_hidden(path, allow_marks=False) is not None:
        raise InvalidInput('the path holds a control or invisible character, a backslash or one of < > " | ? * :')
    if _PERCENT_ESCAPE.search(path):
        raise InvalidInput("the path holds a percent-escape, which something behind this check might decode")
    for part in path.split("/"):
        _check_part(part)
    return PurePosixPath(path)


def _check_part(part: str) -> None:
    # Full-width and other look-alikes (U+FF0E, U+2025, U+FF0F) become the real thing where a system normalises.
    folded = unicodedata.normalize("NFKC", part)
    # The first part of an absolute path is empty. Some servers cut off what follows a semicolon, and then see `..`.
    if not part or folded.partition(";")[0] in {".", ".."} or "/" in folded or "\\" in folded:
        raise InvalidInput("the path must be relative, and have no empty part, '.' or '..'")
    if part.startswith("~"):
        raise InvalidInput("a part of the path starts with '~'")
    if part[-1] in ". " or part[0] == " ":
        # Windows drops trailing dots and spaces: `secret.` and `secret` are one file there.
        raise InvalidInput("a part of the path starts or ends with a space, or ends with a dot")
    if folded.partition(".")[0].rstrip().lower() in _DEVICES:
        raise InvalidInput("a part of the path is a device name on Windows")
