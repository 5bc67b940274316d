"""Authentication. A correct credential is served, however many wrong ones came from the same address.

An address is shared by all clients behind one NAT or proxy: a limit in front of the check would let one of them lock
out the others, and checking a key or a signature costs less than the rest of a request. Limited by address are 401s
with their events and log lines, and remote checks of unknown tokens by the authorization server. Missing credentials
do not count: real clients ask once without, to learn how to authenticate.
"""

from collections.abc import Sequence
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from ..auth.bearer import AmbiguousCredential, bearer_token
from ..auth.principal import Principal, credential_is_valid, current_principal
from ..auth.verifier import InvalidCredential, Unavailable, Verifier
from ..counters import count_authentication, count_decision
from ..events.log import EventLog
from ..http.current_request import client_of_request
from ..limits.client_address import client_key
from ..limits.lockout import FailedAttempts
from .responses import Refusal


class _NotChecked(InvalidCredential):
    """The address is locked out for `wait` seconds, so a remote check is not made."""

    def __init__(self, wait: int) -> None:
        super().__init__("not_asked")
        self.wait = wait


class AuthenticationLayer:
    """Finds the principal of a request, and refuses a wrong credential.

    Args:
        app: the next layer.
        events: where failures are recorded.
        verifiers: asked in order; the first whose kind of token it is decides.
        failures: counts wrong credentials.
        challenge: the value of `WWW-Authenticate` (RFC 9110, section 11.6.1).
        anonymous: the principal of callers without a valid credential; None if they are refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        events: EventLog,
        verifiers: Sequence[Verifier],
        failures: FailedAttempts,
        challenge: str,
        anonymous: Principal | None = None,
    ) -> None:
        self.app = app
        self._events = events
        self._verifiers = tuple(verifiers)
        self._failures = failures
        self._anonymous = anonymous
        invalid = (b"www-authenticate", f'{challenge}, error="invalid_token"'.encode())
        self._invalid = Refusal(401, "The credential is not valid.", headers=[invalid])
        self._unavailable = Refusal(
            503, "Tokens cannot be verified right now. Try again later.", headers=[(b"retry-after", b"30")]
        )
        self._ambiguous = Refusal(400, "Send exactly one Authorization header.")
        self._limited = Refusal(429, "Too many wrong credentials. Wait for the number of seconds in Retry-After.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        address = client_key(client_of_request())
        try:
            token = bearer_token(scope["headers"])
            principal = None if token is None else await self._verified(token, address)
        except Unavailable:
            count_authentication("unverifiable")
            await self._unavailable(scope, receive, send)
            return
        except InvalidCredential as error:
            if isinstance(error, _NotChecked):
                wait = error.wait
            else:
                wait = await self._failures.note(address, guess=not error.was_good)
            if self._anonymous is None:
                await self._refuse(error, wait, scope, receive, send)
                return
            principal = None
        count_authentication("accepted" if principal else "anonymous" if self._anonymous else "absent")
        current_principal.set(principal or self._anonymous)
        await self.app(scope, receive, send)

    async def _refuse(self, error: InvalidCredential, wait: int, scope: Scope, receive: Receive, send: Send) -> None:
        count_decision("wrong_credentials", allowed=not wait)
        if wait:
            count_authentication("limited")
            self._events.record("rate_limit_exceeded", reason="wrong_credentials", retry_after=wait)
            await self._limited(scope, receive, send, headers=[(b"retry-after", str(wait).encode())])
            return
        is_ambiguous = isinstance(error, AmbiguousCredential)
        count_authentication("ambiguous" if is_ambiguous else "invalid")
        self._events.record("authentication_failed", error.whose, path=scope["path"], reason=error.reason)
        await (self._ambiguous if is_ambiguous else self._invalid)(scope, receive, send)

    async def _verified(self, token: str, address: str) -> Principal:
        for verifier in self._verifiers:
            if verifier.asks_elsewhere(token):
                async with self._failures.remote_check(address):
                    if wait := await self._failures.wait(address):  # checks before this one may have failed
                        raise _NotChecked(wait)
                    principal = await verifier.verify(token)
            else:
                principal = await verifier.verify(token)
            if principal is not None:
                credential_is_valid.set(partial(_is_still_valid, verifier, token, principal))
                return principal
        raise InvalidCredential("unknown")


async def _is_still_valid(verifier: Verifier, token: str, principal: Principal) -> bool:
    """Whether a request with `token` would be served now, as the same principal with the same scopes."""
    try:
        return await verifier.verify(token) == principal
    except (InvalidCredential, Unavailable):
        return False
