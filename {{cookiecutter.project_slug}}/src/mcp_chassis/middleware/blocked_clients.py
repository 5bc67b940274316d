"""Refuses addresses that an operator has named: the first move of an incident response."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from ..events.log import EventLog
from ..http.current_request import current_request
from ..limits.client_address import Network, is_in_networks
from .responses import Refusal


class BlockedClientsLayer:
    """Args:
    app: the next layer.
    events: where refusals are noted.
    blocked: networks that are not served.
    """

    def __init__(self, app: ASGIApp, *, events: EventLog, blocked: Sequence[Network]) -> None:
        self.app = app
        self._events = events
        self._blocked = tuple(blocked)
        self._refusal = Refusal(403, "This address is blocked.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request.get()
        if scope["type"] == "http" and request is not None and is_in_networks(request.client, self._blocked):
            self._events.record("http_error", status=403, reason="blocked_client")
            await self._refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)
