"""Everything is closed, except what is listed as public."""

from starlette.types import ASGIApp, Receive, Scope, Send

from ..auth.principal import current_principal
from ..observability.events import EventLog
from .responses import Refusal


class AuthorizationLayer:
    """Args:
    app: the next layer.
    events: where refusals are noted.
    public: paths that need no principal. Compared with the path the router will use, so there is no second reading.
    protected: paths that need a real principal even where anonymous callers are served.
    challenge: the value of `WWW-Authenticate`.
    """

    def __init__(
        self, app: ASGIApp, *, events: EventLog, public: frozenset[str], protected: frozenset[str], challenge: str
    ) -> None:
        self.app = app
        self._events = events
        self._public = public
        self._protected = protected
        # Without `error`: nothing was presented that could be wrong (RFC 6750, section 3.1).
        self._refusal = Refusal(
            401,
            "Authentication is needed: send `Authorization: Bearer <key>`.",
            headers=[(b"www-authenticate", challenge.encode())],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may_pass(scope["path"]):
            self._events.record("authentication_failed", path=scope["path"], reason="missing")
            await self._refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _may_pass(self, path: str) -> bool:
        principal = current_principal.get()
        if path in self._protected:
            return principal is not None and principal.kind != "anonymous"
        return principal is not None or path in self._public
