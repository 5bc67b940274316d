"""Every path needs an authenticated caller, except those that are listed as public."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Scope

from ..auth.principal import authenticated, current_principal
from ..events.log import EventLog
from .gate import Gate
from .responses import Refusal


class AuthorizationLayer(Gate):
    """Refuses requests without a principal, or without the scope that their path needs.

    Args:
        app: the next layer.
        events: where refusals are recorded.
        public: paths that need no principal. Compared with the path that the router will use.
        protected: paths that show data of other callers, each with the scope it needs. Never for anonymous callers.
        challenge: the value of `WWW-Authenticate`.
    """

    def __init__(
        self, app: ASGIApp, *, events: EventLog, public: frozenset[str], protected: Mapping[str, str], challenge: str
    ) -> None:
        super().__init__(app, events)
        self._public = public
        self._protected = protected
        self._unauthenticated = Refusal(
            401,
            "Authentication is needed: send `Authorization: Bearer <key>`.",
            # Without `error`: no credential was sent that could be wrong (RFC 6750, section 3.1).
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

    def refusal(self, scope: Scope) -> ASGIApp | None:
        path, needed = scope["path"], self._protected.get(scope["path"])
        principal = current_principal.get() if needed is None else authenticated()
        if principal is None:
            if path in self._public:
                return None
            self.events.record("authentication_failed", path=path, reason="missing")
            return self._unauthenticated
        if needed is None or principal.may(needed):
            return None
        self.events.record("http_error", principal.id, status=403, reason="insufficient_scope", scopes=[needed])
        return self._out_of_scope[needed]
