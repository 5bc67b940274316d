"""Exact allow-lists of `Host` and `Origin`, on every route.

Against DNS rebinding, where a page's own host name is made to resolve to this server (MCP specification, Streamable
HTTP, security warning). Prefix and wildcard matches are not offered: `http://localhost:80.evil.example` passes them.
"""

from collections.abc import Iterable

from starlette.types import ASGIApp, Scope

from ..events.log import EventLog
from .gate import Gate
from .responses import Refusal

_WRONG_HOST = Refusal(421, "This server does not answer for that Host. Set PUBLIC_URL to the URL in use.")
_WRONG_ORIGIN = Refusal(403, "This Origin is not allowed. Add it to TRUSTED_ORIGINS if it should be.")


class HostAndOriginLayer(Gate):
    """Refuses requests for another host, or from pages of an unknown origin.

    Args:
        app, events: as of `Gate`.
        hosts: every allowed `Host`, with its port where the scheme's default does not apply.
        origins: every allowed `Origin`.
    """

    def __init__(self, app: ASGIApp, *, events: EventLog, hosts: Iterable[str], origins: Iterable[str]) -> None:
        super().__init__(app, events)
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._origins = frozenset(origin.lower().encode() for origin in origins)

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return self._recorded("host", hosts, _WRONG_HOST)
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        # Without an Origin, no browser page is asking (RFC 6454, section 7.3). A browser never sends two.
        if origins and (len(origins) > 1 or origins[0].lower() not in self._origins):
            return self._recorded("origin", origins, _WRONG_ORIGIN)
        return None

    def _recorded(self, header: str, values: list[bytes], refusal: Refusal) -> Refusal:
        self.events.record("untrusted_origin_blocked", header=header, value=b", ".join(values).decode("latin-1"))
        return refusal
