"""Blocks addresses: the first move of an incident response."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Scope

from ..http.current_request import client_of_request
from ..limits.client_address import Network, is_in_networks
from .gate import Gate
from .responses import Refusal

_BLOCKED = Refusal(403, "This address is blocked.")


@dataclass
class BlockedClientsLayer(Gate):
    """Refuses addresses that an operator has named.

    Args:
        app, events: as of `Gate`.
        blocked: networks that are not served.
    """

    blocked: Sequence[Network]

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        if not is_in_networks(client_of_request(), self.blocked):
            return None
        self.events.record("http_error", status=403, reason="blocked_client")
        return _BLOCKED
