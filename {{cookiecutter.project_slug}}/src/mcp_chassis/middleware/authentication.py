"""Authentication. A correct credential is served, however many wrong ones came from the same address.

An address is shared by all clients behind one NAT or proxy: a limit in front of the check would let one of them lock
out the others, and checking a key or a signature costs less than the rest of a request. Limited by address are 401s
with their events and log lines, and remote checks of unknown tokens by the authorization server. Missing credentials
do not count: real clients ask once without, to learn how to authenticate.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Scope

from ..auth.principal import Principal, act_for_caller, credential_is_valid, current_principal
from ..auth.verifier import InvalidCredential, Unavailable, Verifier
from ..counters import count_authentication, count_decision
from ..http.current_request import CREDENTIALS, client_of_request
from ..limits.client_address import client_key
from ..limits.lockout import FailedAttempts
from .gate import Gate
from .responses import Refusal

_UNAVAILABLE = Refusal(503, "Tokens cannot be verified right now. Try again later.", headers=[(b"retry-after", b"30")])
_AMBIGUOUS = Refusal(400, "Send exactly one Authorization header.")
_AMBIGUOUS_REASON = "ambiguous"
# RFC 6750, section 2.1: a token68 of RFC 9110, section 11.2. Bounded, because a verifier may have to hash or parse it.
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]{1,8192}=*)")


class _NotChecked(InvalidCredential):
    """The address is locked out for `wait` seconds, so a remote check is not made."""

    def __init__(self, wait: int) -> None:
        super().__init__("not_asked")
        self.wait = wait


@dataclass
class AuthenticationLayer(Gate):
    """Finds the principal of a request, and refuses a wrong credential.

    Args:
        app, events: as of `Gate`.
        verifiers: asked in order; the first whose kind of token it is decides.
        failures: counts wrong credentials.
        challenge: the value of `WWW-Authenticate` (RFC 9110, section 11.6.1), to which an error is added.
        anonymous: the principal of callers without a valid credential; None if they are refused.
        open: beginnings of paths where no credential is looked at.
    """

    verifiers: Sequence[Verifier]
    failures: FailedAttempts
    challenge: str
    anonymous: Principal | None = None
    open: tuple[str, ...] = ()

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        address = client_key(client_of_request())
        try:
            token = bearer_token(scope["headers"]) if not scope["path"].startswith(self.open) else None
            principal = None if token is None else await self._verified(token, address)
        except Unavailable:
            count_authentication("unverifiable")
            return _UNAVAILABLE
        except InvalidCredential as error:
            if isinstance(error, _NotChecked):
                wait = error.wait
            else:
                wait = await self.failures.note(address, guess=not error.was_good)
            if self.anonymous is None:
                return self._refused(error, wait, scope["path"])
            principal = None
        count_authentication("accepted" if principal else "anonymous" if self.anonymous else "absent")
        current_principal.set(principal or self.anonymous)
        # Nothing behind this layer can pass a caller's token on (MCP, Security Best Practices, token passthrough).
        scope["headers"] = [header for header in scope["headers"] if header[0] not in CREDENTIALS]
        return None

    def _refused(self, error: InvalidCredential, wait: int, path: str) -> Refusal:
        count_decision("wrong_credentials", allowed=not wait)
        if wait:
            count_authentication("limited")
            self.events.record("rate_limit_exceeded", reason="wrong_credentials", retry_after=wait)
            detail = "Too many wrong credentials. Wait for the number of seconds in Retry-After."
            return Refusal(429, detail, headers=[(b"retry-after", b"%d" % wait)])
        name = error.owner.name_field if error.owner is not None else {}
        self.events.record("authentication_failed", error.whose, path=path, reason=error.reason, **name)
        if error.reason == _AMBIGUOUS_REASON:
            count_authentication("ambiguous")
            return _AMBIGUOUS
        count_authentication("invalid")
        challenge = f'{self.challenge}, error="invalid_token"'.encode()
        return Refusal(401, "The credential is not valid.", headers=[(b"www-authenticate", challenge)])

    async def _verified(self, token: str, address: str) -> Principal:
        for verifier in self.verifiers:
            if verifier.asks_elsewhere(token):
                async with self.failures.remote_check(address):
                    if wait := await self.failures.wait(address):  # checks before this one may have failed
                        raise _NotChecked(wait)
                    principal = await verifier.verify(token)
            else:
                principal = await verifier.verify(token)
            if principal is not None:
                credential_is_valid.set(_check(verifier, token, principal))
                act_for_caller.set(verifier.act_for(token))
                return principal
        raise InvalidCredential("unknown")


def _check(verifier: Verifier, token: str, principal: Principal) -> Callable[[], Awaitable[bool]]:
    """Return what finds out whether a request with `token` would be served now, as the same principal with the same
    scopes and claims. A closure: the text of a `partial` would show the token.
    """

    async def is_still_valid() -> bool:
        try:
            return await verifier.verify_again(token) == principal
        except (InvalidCredential, Unavailable):
            return False

    return is_still_valid


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the bearer token in a request's headers, or None if it carries no credential.

    Raises:
        InvalidCredential: if it is not a well-formed bearer token, or if there are several `Authorization` headers, of
            which two parsers could choose different ones.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        return None
    if len(values) > 1:
        raise InvalidCredential(_AMBIGUOUS_REASON)
    match = _BEARER.fullmatch(values[0].strip(b" \t"))
    if match is None:
        raise InvalidCredential("malformed")
    return match[1].decode("ascii")
