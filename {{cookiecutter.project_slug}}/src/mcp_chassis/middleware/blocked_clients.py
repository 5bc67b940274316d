"""Blocks addresses: the first move of an incident response."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Scope

from ..events.log import EventLog
from ..http.current_request import client_of_request
from ..limits.client_address import is_in_networks
from ..sinks.addresses import IPNetwork
from .gate import Gate
from .responses import Refusal


class BlockedClientsLayer(Gate):
    """Refuses addresses that an operator has named.

    Args:
        app: the next layer.
        events: where refusals are recorded.
        blocked: networks that are not served.
    """

    def __init__(self, app: ASGIApp, *, events: EventLog, blocked: Sequence[IPNetwork]) -> None:
        super().__init__(app, events)
        self._blocked = tuple(blocked)
        self._refusal = Refusal(403, "This address is blocked.")

    def refusal(self, scope: Scope) -> ASGIApp | None:
        if not is_in_networks(client_of_request(), self._blocked):
            return None
        self.events.record("http_error", status=403, reason="blocked_client")
        return self._refusal
