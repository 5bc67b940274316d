"""Which tokens may be API keys: no authorization server is shown one."""

import re
from collections.abc import Callable, Container

from ..keys.format import ID_LENGTH, ID_PATTERN, PREFIX

# The prefix at the beginning; or anywhere, with what follows it in either form.
_MARKED = re.compile(rf"^{PREFIX}|{PREFIX}(?:{ID_PATTERN}_|[\w-]{{43}})", re.IGNORECASE)


class KeyForm:
    """Tells what may be an API key: mistyped, without its prefix, rotated, or of another server.

    Args:
        key: the configured `API_KEY`; empty without one.
        ids: returns the ids of the other keys.
    """

    def __init__(self, key: str, ids: Callable[[], Container[str]]) -> None:
        secret = key.removeprefix(PREFIX).lower()
        self._third = third = len(secret) // 3  # two typing errors leave one of three pieces as it was
        self._pieces = frozenset(filter(None, (secret[start : start + third] for start in (0, third, 2 * third))))
        # One of an older `.env`, without the prefix, is also recognised by its length: so are those that it replaced.
        self._length = len(key.rstrip("=")) if key and not key.startswith(PREFIX) else None
        self._ids = ids

    def matches(self, token: str) -> bool:
        """Whether `token` has the marks of a key, the id of one, a third of `API_KEY`, or about its length."""
        text, ids = token.lower(), self._ids()
        if _MARKED.search(token) or any(part[-ID_LENGTH:] in ids for part in text.split("_")[:-1]):
            return True
        if self._length is not None and abs(len(token.rstrip("=")) - self._length) <= 1:
            return True
        # Looked up by their hashes, which are keyed: how many characters are right does not show in the time.
        return any(text[start : start + self._third] in self._pieces for start in range(len(text) - self._third + 1))
