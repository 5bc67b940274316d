"""The scopes of tools, resources and prompts, over HTTP (RFC 6750, section 3.1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Scope

from ..auth.principal import current_principal
from .gate import Gate
from .request_body import parsed_message
from .responses import json_rpc_error


@dataclass
class ScopeLayer(Gate):
    """Refuses what the caller's scopes do not allow, and names the scopes that are needed.

    Args:
        app, events: as of `Gate`.
        missing: returns, for a method and its parameters, all scopes it needs if the caller lacks one, else none.
        challenge: the value of `WWW-Authenticate`, to which the scopes are added.
    """

    missing: Callable[[str, Mapping[str, Any]], list[str]]
    challenge: str

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        message = parsed_message(scope)
        method, params = message.get("method"), message.get("params")
        if not isinstance(method, str) or not isinstance(params, dict) or not (needed := self.missing(method, params)):
            return None
        principal = current_principal.get()
        identifier = principal.id if principal is not None else None
        self.events.record("http_error", identifier, status=403, reason="insufficient_scope", scopes=needed)
        challenge = f'{self.challenge}, error="insufficient_scope", scope="{" ".join(needed)}"'
        error = {"code": -32003, "message": "Insufficient scope", "data": {"required_scopes": needed}}
        return json_rpc_error(403, error, message_id=message.get("id"), headers={"www-authenticate": challenge})
