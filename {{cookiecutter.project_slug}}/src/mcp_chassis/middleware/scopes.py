"""The scopes of tools, resources and prompts, over HTTP (RFC 6750, section 3.1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mcp.types import ErrorData
from starlette.types import ASGIApp, Scope

from .gate import Gate
from .request_body import parsed_message
from .responses import json_rpc_error


@dataclass
class ScopeLayer(Gate):
    """Refuses what the caller's scopes do not allow, and names the scopes that are needed.

    Args:
        app, events: as of `Gate`.
        forbidden: returns, for a method and its parameters, the error if the caller lacks a scope, and notes it.
        challenge: the value of `WWW-Authenticate`, to which the scopes are added.
    """

    forbidden: Callable[[str, Mapping[str, Any]], ErrorData | None]
    challenge: str

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        message = parsed_message(scope)
        method, params = message.get("method"), message.get("params")
        if not isinstance(method, str) or not isinstance(params, dict) or not (error := self.forbidden(method, params)):
            return None
        challenge = f'{self.challenge}, error="insufficient_scope", scope="{" ".join(error.data["required_scopes"])}"'
        headers = {"www-authenticate": challenge}
        return json_rpc_error(403, error.model_dump(), message_id=message.get("id"), headers=headers)
