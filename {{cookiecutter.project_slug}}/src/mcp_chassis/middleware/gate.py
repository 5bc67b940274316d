"""Layers that let requests pass or refuse them: what they have in common, and those that look at no credential."""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from ..events.log import EventLog
from ..http.current_request import client_of_request
from ..limits.client_address import Network, is_in_networks
from .responses import Refusal

_BLOCKED = Refusal(403, "This address is blocked.")
_WRONG_HOST = Refusal(421, "This server does not answer for that Host. Add it to PUBLIC_URL or ALLOWED_HOSTS.")
_WRONG_ORIGIN = Refusal(403, "This Origin is not allowed. Add it to TRUSTED_ORIGINS if it should be.")


@dataclass
class Gate(ABC):
    """Answers requests that `refusal` refuses, which it notes in `events`, and passes all others on to `app`."""

    app: ASGIApp
    events: EventLog

    @abstractmethod
    async def refusal(self, scope: Scope) -> ASGIApp | None:
        """Return what answers an HTTP request instead of the application; None if nothing is wrong with it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self.refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)


@dataclass
class BlockedClientsLayer(Gate):
    """Refuses addresses that an operator has named: the first move of an incident response."""

    blocked: Sequence[Network]

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        if not is_in_networks(client_of_request(), self.blocked):
            return None
        self.events.record("http_error", status=403, reason="blocked_client")
        return _BLOCKED


@dataclass
class HostAndOriginLayer(Gate):
    """Refuses requests for another host, or from pages of an unknown origin, by exact allow-lists on every route.

    Against DNS rebinding, where a page's own host name is made to resolve to this server (MCP specification, Streamable
    HTTP, security warning). No prefix or wildcard matches are offered: `http://localhost:80.evil.example` passes them.
    """

    hosts: Iterable[str]  # every allowed `Host`, with its port where the scheme's default does not apply
    origins: Iterable[str]
    probes: Container[str] = ()  # need no allowed `Host`: a kubelet or a load balancer asks for the server's address

    def __post_init__(self) -> None:
        self._hosts = frozenset(host.lower().encode() for host in self.hosts)
        self._origins = frozenset(origin.encode() for origin in self.origins)

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        is_own = len(hosts) == 1 and hosts[0].lower() in self._hosts
        if not is_own and scope["path"] not in self.probes:
            return self._recorded("host", hosts, _WRONG_HOST)
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        # Without an Origin, no browser page is asking (RFC 6454, section 7.3). A browser never sends two.
        if origins and (len(origins) > 1 or origins[0] not in self._origins):
            return self._recorded("origin", origins, _WRONG_ORIGIN)
        return None

    def _recorded(self, header: str, values: list[bytes], refusal: Refusal) -> Refusal:
        self.events.record("untrusted_origin_blocked", header=header, value=b", ".join(values).decode("latin-1"))
        return refusal
