"""The key in `.env`: one secret, all scopes."""

import hashlib
import hmac

from ..principal import ALL_SCOPES, Principal
from ..verifier import NotMine


class ApiKeyVerifier:
    """Compares a bearer token with one key.

    Digests of bytes are compared, in constant time: `hmac.compare_digest` refuses non-ASCII text with a TypeError, and
    comparing the key itself would tell its length. SHA-256 without salt is right for 256 random bits.
    """

    def __init__(self, key: str) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()
        self._principal = Principal("key:default", "key", frozenset({ALL_SCOPES}))

    async def verify(self, token: str) -> Principal:
        """Return the key's principal, or raise `NotMine`."""
        if not hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._digest):
            raise NotMine("unknown")
        return self._principal
