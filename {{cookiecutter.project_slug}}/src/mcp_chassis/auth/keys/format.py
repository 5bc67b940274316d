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
# The prefix at the beginning; or anywhere, with what follows it in either form.
_MARKED = re.compile(rf"^{PREFIX}|{PREFIX}(?:{ID_PATTERN}_|[\w-]{{43}})", re.IGNORECASE)


def new_id() -> str:
    """Return a random id. It is not secret: lists, logs and events call the key by it."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(ID_LENGTH))


def new_key(key_id: str) -> str:
    """Return a new key with that id."""
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
    return f"{PREFIX}{key_id}_{secret}" + _check_sum(f"{PREFIX}{key_id}_{secret}")


def id_of(key: str) -> str:
    """Return the id in `key`.

    Raises:
        InvalidCredential: if the form or the check sum is wrong: a text that no key can be.
    """
    match = _KEY.fullmatch(key)
    if match is None or _check_sum(key[:-_CHECK_LENGTH]) != key[-_CHECK_LENGTH:]:
        raise InvalidCredential("check_sum")
    return match[1]


def digest(key: str) -> str:
    """Return what is stored of a key. Without salt or stretching: 2**256 secrets cannot be tried."""
    return hashlib.sha256(key.encode()).hexdigest()


def has_key_form(token: str) -> bool:
    """Whether `token` has the marks of an API key, of this server or of another: it may be mistyped, or rotated."""
    return _MARKED.search(token) is not None


class NearKey:
    """Recognises what may be the configured `API_KEY`, mistyped."""

    def __init__(self, key: str) -> None:
        secret = key.removeprefix(PREFIX).lower()
        third = len(secret) // 3  # two typing errors leave one of three pieces as it was
        self._pieces = frozenset(secret[start : start + third] for start in (0, third, 2 * third))
        self._third = third
        self._length = None if key.startswith(PREFIX) else len(key.rstrip("="))

    def resembles(self, token: str) -> bool:
        """Whether `token` holds a third of the key. One of an older `.env`, without the prefix, is also recognised by
        its length, give or take a character, padding left out: so are those that it has replaced.
        """
        if self._length is not None and abs(len(token.rstrip("=")) - self._length) <= 1:
            return True
        text = token.lower()
        # Looked up by their hashes, which are keyed: how many characters are right does not show in the time.
        return any(text[start : start + self._third] in self._pieces for start in range(len(text) - self._third + 1))


def _check_sum(text: str) -> str:
    number = zlib.crc32(text.encode())
    return "".join(_BASE62[number // 62**place % 62] for place in reversed(range(_CHECK_LENGTH)))
