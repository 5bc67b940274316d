"""Everything is closed, except what is listed as public."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from ..auth.principal import current_principal
from ..events.log import EventLog
from .responses import Refusal


class AuthorizationLayer:
    """Args:
    app: the next layer.
    events: where refusals are noted.
    public: paths that need no principal. Compared with the path the router will use, so there is no second reading.
    protected: paths that tell of other callers, and the scope each needs, even where anonymous callers are served.
    challenge: the value of `WWW-Authenticate`.
    """

    def __init__(
        self, app: ASGIApp, *, events: EventLog, public: frozenset[str], protected: Mapping[str, str], challenge: str
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
        self._out_of_scope = {
            scope: Refusal(
                403,
                f"This needs a credential with the scope {scope}.",
                headers=[(b"www-authenticate", f'{challenge}, error="insufficient_scope", scope="{scope}"'.encode())],
            )
            for scope in protected.values()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._judge(scope["path"])) is not None:
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _judge(self, path: str) -> Refusal | None:
        principal, needed = current_principal.get(), self._protected.get(path)
        if principal is None or (needed is not None and principal.kind == "anonymous"):
            if path in self._public:
                return None
            self._events.record("authentication_failed", path=path, reason="missing")
            return self._refusal
        if needed is not None and not principal.may(needed):
            self._events.record("http_error", principal.id, status=403, reason="insufficient_scope", scopes=[needed])
            return self._out_of_scope[needed]
        return None
