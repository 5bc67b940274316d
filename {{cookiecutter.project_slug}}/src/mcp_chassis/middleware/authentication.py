"""Finds out who is calling. An address that keeps presenting wrong credentials is put aside before they are looked at.

Wrong credentials count, missing ones do not: real clients ask once without, to learn how to authenticate.
"""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from ..auth.bearer import AmbiguousCredential, bearer_token
from ..auth.oauth.introspection import IntrospectionVerifier
from ..auth.oauth.jwks import IssuerUnavailable
from ..auth.principal import Principal, current_principal
from ..auth.verifier import InvalidCredential, NotMine, Verifier
from ..events.log import EventLog
from ..http.current_request import current_request
from ..limits.client_address import client_key
from ..limits.lockout import FailedAttempts
from ..telemetry.metrics import count_authentication, count_decision
from .responses import Refusal


class _NotHeard(Exception):
    """Too many wrong credentials came from this address. `wait` is in seconds."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


class AuthenticationLayer:
    """Args:
    app: the next layer.
    events: where failures are noted.
    verifiers: asked in order; the first whose kind of token it is decides.
    failures: the penalty box.
    challenge: the value of `WWW-Authenticate` (RFC 9110, section 11.6.1).
    anonymous: who calls without a valid credential, when that is allowed; None when it is not.
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
        self._invalid = Refusal(
            401,
            "The credential is not valid.",
            headers=[(b"www-authenticate", f'{challenge}, error="invalid_token"'.encode())],
        )
        self._unavailable = Refusal(
            503, "Tokens cannot be verified right now. Try again later.", headers=[(b"retry-after", b"30")]
        )
        self._ambiguous = Refusal(400, "Send exactly one Authorization header.")
        self._penalty = Refusal(429, "Too many wrong credentials. Wait for the number of seconds in Retry-After.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = current_request.get()
        address = client_key(request.client if request is not None else "unknown")
        try:
            if self._anonymous is None and any(name == b"authorization" for name, _ in scope["headers"]):
                await self._hear(address)
            token = bearer_token(scope["headers"])
            principal = None if token is None else await self._verified(token, address)
        except _NotHeard as error:
            count_authentication("unheard")
            self._events.record("rate_limit_exceeded", reason="wrong_credentials", retry_after=error.wait)
            await self._penalty(scope, receive, send, headers=[(b"retry-after", str(error.wait).encode())])
            return
        except IssuerUnavailable:
            count_authentication("unverifiable")
            await self._unavailable(scope, receive, send)
            return
        except (AmbiguousCredential, InvalidCredential) as error:
            if self._anonymous is None:
                await self._refuse(error, address, scope, receive, send)
                return
            principal = None
        count_authentication("accepted" if principal else "anonymous" if self._anonymous else "absent")
        current_principal.set(principal or self._anonymous)
        await self.app(scope, receive, send)

    async def _refuse(
        self, error: AmbiguousCredential | InvalidCredential, address: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        count_authentication("invalid" if isinstance(error, InvalidCredential) else "ambiguous")
        await self._failures.note(address, guess=not (isinstance(error, InvalidCredential) and error.was_good))
        if isinstance(error, InvalidCredential):
            self._events.record("authentication_failed", error.whose, path=scope["path"], reason=error.reason)
            await self._invalid(scope, receive, send)
        else:
            self._events.record("authentication_failed", path=scope["path"], reason="ambiguous")
            await self._ambiguous(scope, receive, send)

    async def _hear(self, address: str) -> None:
        wait = await self._failures.wait(address)
        count_decision("wrong_credentials", allowed=not wait)
        if wait:
            raise _NotHeard(wait)

    async def _verified(self, token: str, address: str) -> Principal:
        reason = "unknown"
        for verifier in self._verifiers:
            try:
                if not isinstance(verifier, IntrospectionVerifier):
                    return await verifier.verify(token)
                async with self._failures.turn(address):
                    await self._hear(address)  # those before it may have been wrong
                    return await verifier.verify(token)
            except NotMine as error:
                reason = error.reason
        raise InvalidCredential(reason)
