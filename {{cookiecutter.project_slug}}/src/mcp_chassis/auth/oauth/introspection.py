"""Opaque access tokens, introspected at the authorization server (RFC 7662), which is shown no API key."""

import re
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import anyio
import structlog

from ...sinks.errors import UpstreamError
from ..keys.format import ID_LENGTH, ID_PATTERN, PREFIX
from ..principal import Principal
from ..verifier import InvalidCredential
from .jwks import IssuerClient, IssuerUnavailable, cause_of, json_object
from .rules import LATEST, LEEWAY
from .token_verifier import TokenVerifier
from .verdict_cache import Verdict

log = structlog.stdlib.get_logger("auth")

_REMEMBERED = 30.0  # seconds that a revoked token stays valid (RFC 7662, section 4)
_COOL_DOWN = 5.0  # seconds between a request that failed and the next one
_MAX_CONCURRENT = 10  # requests
# Statuses that reject this one token. If they counted as an outage, any client could cause one.
_TOKEN_REJECTED = frozenset({400, 413, 414, 422})
# The prefix at the beginning; or anywhere, with what follows it in either form.
_MARKED = re.compile(rf"^{PREFIX}|{PREFIX}(?:{ID_PATTERN}_|[\w-]{{43}})", re.IGNORECASE)


@dataclass(kw_only=True, eq=False, repr=False)
class IntrospectionVerifier(IssuerClient, TokenVerifier):
    """Judges tokens that are neither API keys nor JWTs, by sending them to the issuer.

    The answer must have `aud`: a token for another server is active as well. It need not have `iss`.
    """

    may_be_key: Callable[[str], bool]  # whether a token may be an API key, which the issuer must not see
    recheck: float = 1.0  # seconds until it is asked again about a token whose stream is open

    def __post_init__(self) -> None:
        self._at_once = anyio.CapacityLimiter(_MAX_CONCURRENT)
        self._again_at = 0.0

    async def verify(self, token: str) -> Principal:
        """Return the token's subject or, without one, its client (RFC 9068, section 2.2)."""
        if self.may_be_key(token):
            raise InvalidCredential("key_form")
        return (self._verdicts.get(token) or await self._judge(token)).principal

    async def verify_again(self, token: str) -> Principal:
        """Ask the issuer again before the usual time, so that a stream ends soon after its token was revoked."""
        verdict = self._verdicts.last(token)
        try:
            if verdict is None or time.time() > verdict.until - _REMEMBERED + self.recheck:
                verdict = await self._judge(token)
        except IssuerUnavailable:
            return await self.verify(token)  # what it said last holds for its usual time
        return verdict.principal

    def asks_elsewhere(self, token: str) -> bool:
        """Whether the token is new here. Asking again about one that was valid before is no guess."""
        return self._verdicts.last(token) is None

    async def _judge(self, token: str) -> Verdict:
        before = self._verdicts.last(token)
        owner = before.principal if before is not None else None
        async with self._at_once:
            now = self._verdicts.last(token)
            if now is not before:  # a concurrent request with this token has asked
                if now is None:
                    raise InvalidCredential("inactive", owner)
                return now
            try:
                verdict = self._verdict(await self._ask(token))
            except InvalidCredential as error:
                self._verdicts.drop(token)
                raise InvalidCredential(error.reason, owner) from None
            self._verdicts.put(token, verdict)
        return verdict

    def _verdict(self, claims: dict[str, Any]) -> Verdict:
        if claims.get("active") is not True:
            raise InvalidCredential("inactive")
        if str(claims.get("token_type", "Bearer")).lower() != "bearer":
            raise InvalidCredential("token_type")  # a refresh token is active as well
        principal = self.rules.principal(claims, is_jwt=False)
        until = min(time.time() + _REMEMBERED, claims.get("exp", LATEST) + LEEWAY)
        return Verdict(principal=principal, until=until)

    async def _ask(self, token: str) -> dict[str, Any]:
        if time.monotonic() < self._again_at:
            raise IssuerUnavailable
        try:
            answer = await self._post({"token": token, "token_type_hint": "access_token"})
            if answer.status in _TOKEN_REJECTED:
                raise InvalidCredential("refused")
            return json_object(answer)
        except (ValueError, UpstreamError) as error:
            self._again_at = time.monotonic() + _COOL_DOWN
            log.error("a token could not be introspected", cause=cause_of(error))
            raise IssuerUnavailable from None


class KeyForm:
    """Tells what may be an API key: mistyped, without its prefix, rotated, or of another server.

    `key` is the configured `API_KEY`, empty without one; `ids` returns the ids of the other keys.
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
