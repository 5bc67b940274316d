"""API keys from the keys file or from settings: looked up by id, compared by digest."""

import hmac
from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime

import structlog

from ..principal import Principal
from ..verifier import InvalidCredential, Verifier
from .format import PREFIX, digest, id_of
from .records import KeyRecord

log = structlog.stdlib.get_logger("auth")

_EPOCH = datetime.fromtimestamp(0, UTC)
# Stands in for an unknown key, so that the same work is done for it. Nothing has this digest.
_NOBODY = KeyRecord(id="0" * 10, name="nobody", scopes=("nothing",), sha256="0" * 64, created=_EPOCH)


class KeyVerifier(Verifier):
    """Judges tokens that begin with `mcp_`.

    Args:
        records: returns the present keys by id.
        revoked: ids that were revoked elsewhere.
    """

    def __init__(self, records: Callable[[], Mapping[str, KeyRecord]], revoked: Container[str] = frozenset()) -> None:
        self._records = records
        self._revoked = revoked
        self._noticed: set[str] = set()

    async def verify(self, token: str) -> Principal | None:
        """Return the key's principal; None if the token is not an API key of this form.

        Raises:
            InvalidCredential: if the key is mistyped, unknown, revoked or expired.
        """
        if not token.startswith(PREFIX):
            return None
        key_id, presented = id_of(token), digest(token)
        record = self._records().get(key_id, _NOBODY)
        is_current = _same(presented, record.sha256)
        is_previous = _same(presented, record.previous_sha256 or _NOBODY.sha256)
        if not (is_current or is_previous):
            # The secret decides before anything else is said of a key, even to our own log.
            raise InvalidCredential("unknown")
        now, name = datetime.now(UTC), f"key:{key_id}"
        if record.revoked is not None or key_id in self._revoked:
            raise InvalidCredential("revoked", name)
        end = record.expires if is_current else record.previous_until or _EPOCH
        if end is not None and now >= end:
            raise InvalidCredential("expired" if is_current else "rotated", name)
        if is_previous:
            self._notice(record)
        return Principal(name, "key", frozenset(record.scopes))

    def _notice(self, record: KeyRecord) -> None:
        """Tell the operator once who has not moved to the new secret yet."""
        if record.sha256 not in self._noticed:
            self._noticed.add(record.sha256)
            log.warning(
                "the secret of before the rotation is still in use", key=record.id, until=str(record.previous_until)
            )


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
