"""Every path needs an authenticated caller, except those that are listed as public."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Scope

from ..auth.principal import authenticated, current_principal
from .gate import Gate
from .responses import Refusal


@dataclass
class AuthorizationLayer(Gate):
    """Refuses requests without a principal, or without the scope that their path needs.

    Args:
        app, events: as of `Gate`.
        public: paths that need no principal. Compared with the path that the router will use.
        protected: paths that show data of other callers, each with the scope it needs. Never for anonymous callers.
        challenge: the value of `WWW-Authenticate`, to which an error is added.
    """

    public: frozenset[str]
    protected: Mapping[str, str]
    challenge: str

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        path, needed = scope["path"], self.protected.get(scope["path"])
        principal = current_principal.get() if needed is None else authenticated()
        if principal is None and path in self.public:
            return None
        if principal is None:
            self.events.record("authentication_failed", path=path, reason="missing")
            # Without `error`: no credential was sent that could be wrong (RFC 6750, section 3.1).
            return self._refusal(401, "Authentication is needed: send `Authorization: Bearer <key>`.", self.challenge)
        if needed is None or principal.may(needed):
            return None
        self.events.record("http_error", principal.id, status=403, reason="insufficient_scope", scopes=[needed])
        challenge = f'{self.challenge}, error="insufficient_scope", scope="{needed}"'
        return self._refusal(403, f"This needs a credential with the scope {needed}.", challenge)

    def _refusal(self, status: int, detail: str, challenge: str) -> Refusal:
        return Refusal(status, detail, headers=[(b"www-authenticate", challenge.encode())])
