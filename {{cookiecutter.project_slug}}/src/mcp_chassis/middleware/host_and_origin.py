"""Serves only requests that were meant for this server: exact allow-lists of `Host` and `Origin`, on every route.

Against DNS rebinding, where a page's own host name is made to resolve to this server (MCP specification, Streamable
HTTP, security warning). Prefix and wildcard matches are not offered: `http://localhost:80.evil.example` passes them.
"""

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from ..events.log import EventLog
from .responses import Refusal


class HostAndOriginLayer:
    """Args:
    app: the next layer.
    events: where refusals are noted.
    hosts: every allowed `Host`, with its port where the scheme's default does not apply.
    origins: every allowed `Origin`.
    """

    def __init__(self, app: ASGIApp, *, events: EventLog, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self.app = app
        self._events = events
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._origins = frozenset(origin.lower().encode() for origin in origins)
        self._wrong_host = Refusal(421, "This server does not answer for that Host. Set PUBLIC_URL to the URL in use.")
        self._wrong_origin = Refusal(403, "This Origin is not allowed. Add it to TRUSTED_ORIGINS if it should be.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            self._events.record("untrusted_origin_blocked", header="host", value=_shown(hosts))
            await self._wrong_host(scope, receive, send)
            return
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        # No Origin means no browser page is asking (RFC 6454, section 7.3); two mean somebody is playing.
        if origins and (len(origins) > 1 or origins[0].lower() not in self._origins):
            self._events.record("untrusted_origin_blocked", header="origin", value=_shown(origins))
            await self._wrong_origin(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _shown(values: list[bytes]) -> str:
    return b", ".join(values).decode("latin-1")
