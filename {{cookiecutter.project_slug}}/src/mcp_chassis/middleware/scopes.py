"""Refuses what the caller's scopes do not allow, and says which it needs (RFC 6750, section 3.1)."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from ..auth.principal import current_principal
from ..events.log import EventLog
from .request_body import parsed_message
from .responses import send_json


class ScopeLayer:
    """Args:
    app: the next layer.
    events: where refusals are noted.
    missing: returns, for a method and its parameters, all scopes it needs if the caller lacks one, else none.
    challenge: the value of `WWW-Authenticate` so far.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        events: EventLog,
        missing: Callable[[str, Mapping[str, Any]], list[str]],
        challenge: str,
    ) -> None:
        self.app = app
        self._events = events
        self._missing = missing
        self._challenge = challenge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = parsed_message(scope)
        method, params = message.get("method"), message.get("params")
        if isinstance(method, str) and isinstance(params, dict) and (needed := self._missing(method, params)):
            principal = current_principal.get()
            self._events.record(
                "http_error",
                principal.id if principal is not None else None,
                status=403,
                reason="insufficient_scope",
                scopes=needed,
            )
            await self._refuse(message.get("id"), needed, send)
            return
        await self.app(scope, receive, send)

    async def _refuse(self, message_id: object, needed: list[str], send: Send) -> None:
        challenge = f'{self._challenge}, error="insufficient_scope", scope="{" ".join(needed)}"'
        error = {"code": -32003, "message": "Insufficient scope", "data": {"required_scopes": needed}}
        known_id = message_id if isinstance(message_id, str | int) else None
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", challenge.encode())]
        await send_json(send, 403, {"jsonrpc": "2.0", "id": known_id, "error": error}, headers)
