"""What an API key looks like: `mcp_<id>_<secret><check sum>` from `keys create`, `mcp_<secret>` in `.env`.

Secret scanners and servers recognise a key by its prefix. The check sum tells a typing error from a wrong key, offline
(the format of GitHub's tokens). Neither makes a key hard to guess: 256 random bits do.
"""

import hashlib
import re
import secrets
import string
import zlib

from ..verifier import InvalidCredential

PREFIX = "mcp_"
ID_LENGTH = 10
ID_PATTERN = f"[0-9a-z]{{{ID_LENGTH}}}"
"""One case only: ids are read aloud, typed and grepped for."""

_ID_LETTERS = string.digits + string.ascii_lowercase
_BASE62 = string.digits + string.ascii_letters
_SECRET_LENGTH = 43  # 62 ** 43 > 2 ** 256
_CHECK_LENGTH = 6  # 62 ** 6 > 2 ** 32
_KEY = re.compile(rf"{PREFIX}({ID_PATTERN})_[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECK_LENGTH}}}")


def new_id() -> str:
    """Return a random id. It is not secret: lists, logs and events call the key by it."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(ID_LENGTH))


def new_key(key_id: str) -> str:
    """Return a new key with that id."""
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
    return f"{PREFIX}{key_id}_{secret}" + check_sum(f"{PREFIX}{key_id}_{secret}")


def id_of(key: str) -> str:
    """Return the id in `key`.

    Raises:
        InvalidCredential: if the form or the check sum is wrong: a text that no key can be.
    """
    match = _KEY.fullmatch(key)
    if match is None or check_sum(key[:-_CHECK_LENGTH]) != key[-_CHECK_LENGTH:]:
        raise InvalidCredential("check_sum")
    return match[1]


def digest(key: str) -> str:
    """Return what is stored of a key. Without salt or stretching: 2**256 secrets cannot be tried."""
    return hashlib.sha256(key.encode()).hexdigest()


def check_sum(text: str) -> str:
    """Return the CRC32 of a text in base 62, as the tokens of GitHub and npm have it too."""
    number = zlib.crc32(text.encode())
    return "".join(_BASE62[number // 62**place % 62] for place in reversed(range(_CHECK_LENGTH)))
