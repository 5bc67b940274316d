"""Every path needs an authenticated caller, except public ones; some calls need scopes (RFC 6750, section 3.1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mcp.types import ErrorData
from starlette.types import ASGIApp, Scope

from ..auth.principal import authenticated, current_principal
from .gate import Gate
from .request_body import parsed_message
from .responses import Refusal, json_rpc_error


@dataclass
class AuthorizationLayer(Gate):
    """Refuses requests without a principal, or without the scope that their path needs."""

    public: frozenset[str]  # paths that need no principal, compared with the path that the router will use
    protected: Mapping[str, str]  # paths that show data of other callers, with their scopes; never for anonymous ones
    challenge: str  # the value of `WWW-Authenticate`, to which an error is added
    first_challenge: str  # the value for a request without a credential
    asked_for: Callable[[str], str] = str  # returns the name by which clients ask for a scope
    open: tuple[str, ...] = ()  # beginnings of further public paths

    def __post_init__(self) -> None:
        # Without `error`: no credential was sent that could be wrong (RFC 6750, section 3.1).
        headers = [(b"www-authenticate", self.first_challenge.encode())]
        self._missing = Refusal(401, "Authentication is needed: send `Authorization: Bearer <key>`.", headers=headers)

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        path, needed = scope["path"], self.protected.get(scope["path"])
        principal = current_principal.get() if needed is None else authenticated()
        if principal is None and (path in self.public or path.startswith(self.open)):
            return None
        if principal is None:
            self.events.record("authentication_failed", path=path, reason="missing")
            return self._missing
        if needed is None or principal.may(needed):
            return None
        self.events.record("http_error", principal.id, status=403, reason="insufficient_scope", scopes=[needed])
        challenge = f'{self.challenge}, error="insufficient_scope", scope="{self.asked_for(needed)}"'
        headers = [(b"www-authenticate", challenge.encode())]
        detail = f"This needs a credential with the scope {needed}."
        return Refusal(403, detail, headers=headers, error="insufficient_scope")


@dataclass
class ScopeLayer(Gate):
    """Refuses what the caller's scopes do not allow, and names the scopes that are needed."""

    forbidden: Callable[[str, Mapping[str, Any]], ErrorData | None]
    """Returns, for a method and its parameters, the error if the caller lacks a scope, and notes it."""
    challenge: str
    asked_for: Callable[[str], str] = str

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        message = parsed_message(scope)
        method, params = message.get("method"), message.get("params")
        if not isinstance(method, str) or not isinstance(params, dict) or not (error := self.forbidden(method, params)):
            return None
        needed = " ".join(map(self.asked_for, error.data["required_scopes"]))
        challenge = f'{self.challenge}, error="insufficient_scope", scope="{needed}"'
        headers = {"www-authenticate": challenge}
        return json_rpc_error(403, error.model_dump(), message_id=message.get("id"), headers=headers)
