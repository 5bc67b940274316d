"""The key in `.env`: one secret, all scopes."""

import hashlib
import hmac

from ..principal import ALL_SCOPES, Principal
from ..verifier import Verifier


class ApiKeyVerifier(Verifier):
    """Compares a bearer token with one key.

    Digests of bytes are compared, in constant time: `hmac.compare_digest` refuses non-ASCII text with a TypeError, and
    comparing the key itself would tell its length. SHA-256 without salt is right for 256 random bits.
    """

    def __init__(self, key: str) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()
        self._principal = Principal("key:default", "key", frozenset({ALL_SCOPES}))

    async def verify(self, token: str) -> Principal | None:
        """Return the key's principal; None for every other token."""
        is_key = hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._digest)
        return self._principal if is_key else None
