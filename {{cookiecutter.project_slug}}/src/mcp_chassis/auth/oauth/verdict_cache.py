"""Remembers valid tokens, by digest: checking a signature is expensive, and asking the issuer costs more."""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..principal import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What holds for some time."""

    until: float  # when it must be asked for again, by `time.time()`


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Kept):
    """The result of verifying one valid token."""

    principal: Principal
    kid: str | None = None
    key: object = None  # the public key it was verified with: without that key the verdict no longer holds


_Entry = TypeVar("_Entry", bound=Kept)


class VerdictCache(Generic[_Entry]):
    """A least-recently-used table. Only valid tokens are kept: made-up ones must not be able to push them out."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._verdicts: OrderedDict[bytes, _Entry] = OrderedDict()

    def get(self, token: str) -> _Entry | None:
        """Return the verdict on `token` if it still holds."""
        verdict = self.last(token)
        return verdict if verdict is not None and time.time() < verdict.until else None

    def last(self, token: str) -> _Entry | None:
        """Return the last verdict on `token`, whether or not it still holds."""
        digest = _digest(token)
        verdict = self._verdicts.get(digest)
        if verdict is not None:
            self._verdicts.move_to_end(digest)
        return verdict

    def put(self, token: str, verdict: _Entry) -> None:
        self._verdicts[_digest(token)] = verdict
        if len(self._verdicts) > self._size:
            self._verdicts.popitem(last=False)

    def drop(self, token: str) -> None:
        self._verdicts.pop(_digest(token), None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
