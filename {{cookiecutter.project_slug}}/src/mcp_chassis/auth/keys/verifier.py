"""The verifier of all API keys: `API_KEY`, the keys file and the setting `KEYS`. Keys are compared by digest."""

import hmac
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from ..principal import Principal
from ..verifier import InvalidCredential, Verifier
from .format import ID_LENGTH, PREFIX, digest, id_of
from .records import KeyRecord

log = structlog.stdlib.get_logger("auth")

_EPOCH = datetime.fromtimestamp(0, UTC)
# Stands in for a key that does not exist, so that the same work is done for it. No key has this digest.
NO_KEY = KeyRecord(id="0" * 10, name="none", scopes=("none",), sha256="0" * 64, created=_EPOCH)


@dataclass(eq=False, repr=False)
class KeyVerifier(Verifier):
    """Judges the configured `API_KEY`, and every token that begins with `mcp_`.

    Args:
        records: returns the present keys by id.
        revoked: ids that were revoked elsewhere.
        used: gets the present day for each key that is valid, by its id.
        default: the record of `API_KEY`, which may have any form.
    """

    records: Callable[[], Mapping[str, KeyRecord]]
    revoked: Container[str] = frozenset()
    used: dict[str, str] = field(default_factory=dict)
    default: KeyRecord = field(default=NO_KEY, kw_only=True)
    _logged: set[str] = field(default_factory=set, init=False)

    async def verify(self, token: str) -> Principal | None:
        """Return the key's principal; None if the token is not an API key.

        Raises:
            InvalidCredential: if the key is mistyped, unknown, revoked or expired.
        """
        presented = digest(token)
        if _same(presented, self.default.sha256):
            # API_KEY may be a key of `keys create`: then its scopes, its end and its revocation decide.
            same = self.records().get(token.removeprefix(PREFIX)[:ID_LENGTH])
            record = same if same is not None and any(_matches(presented, same)) else self.default
        elif token.startswith(PREFIX):
            key_id = id_of(token)
            record = self.records().get(key_id, NO_KEY)
        else:
            return None
        is_current, is_previous = _matches(presented, record)
        if not (is_current or is_previous):
            # The secret decides before anything else is said of a key, even to our own log.
            raise InvalidCredential("unknown")
        now = datetime.now(UTC)
        principal = record.principal
        if record.revoked is not None or record.id in self.revoked:
            raise InvalidCredential("revoked", principal)
        end = record.expires if is_current else record.previous_until or _EPOCH
        if end is not None and now >= end:
            raise InvalidCredential("expired" if is_current else "rotated", principal)
        if is_previous and record.sha256 not in self._logged:
            self._logged.add(record.sha256)
            log.warning(
                "the secret of before the rotation is still in use", key=record.id, until=str(record.previous_until)
            )
        self.used[record.id] = now.date().isoformat()
        return principal


def _matches(presented: str, record: KeyRecord) -> tuple[bool, bool]:
    return _same(presented, record.sha256), _same(presented, record.previous_sha256 or NO_KEY.sha256)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
