"""Remembers tokens that were found good, by digest: checking a signature is dear, and asking the issuer dearer."""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from ..principal import Principal


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out about one token."""

    principal: Principal
    until: float
    """When it must be looked at again, as `time.time()` tells it."""
    kid: str | None = None
    key: object = None
    """The public key it was verified with. The verdict falls with it."""


class VerdictCache:
    """A table of bounded size; what was not asked for longest goes first.

    Only good verdicts are kept: whoever makes up tokens must not be able to push them out.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()

    def get(self, token: str) -> Verdict | None:
        """Return what is known of `token` and still holds."""
        verdict = self.last(token)
        return verdict if verdict is not None and time.time() < verdict.until else None

    def last(self, token: str) -> Verdict | None:
        """Return what was known of `token` when it was last looked at, whether or not it still holds."""
        digest = _digest(token)
        verdict = self._verdicts.get(digest)
        if verdict is not None:
            self._verdicts.move_to_end(digest)
        return verdict

    def put(self, token: str, verdict: Verdict) -> None:
        """Remember a good token."""
        self._verdicts[_digest(token)] = verdict
        if len(self._verdicts) > self._size:
            self._verdicts.popitem(last=False)

    def drop(self, token: str) -> None:
        """Forget a token."""
        self._verdicts.pop(_digest(token), None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
