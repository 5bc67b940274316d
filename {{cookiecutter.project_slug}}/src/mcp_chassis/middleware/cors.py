"""Lets pages of the trusted origins read responses."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

# Headers of MCP 2026-07-28 and of the revisions before it.
_REQUEST_HEADERS = (
    *("accept", "authorization", "content-type", "last-event-id", "x-request-id"),
    *("mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name"),
)
_RESPONSE_HEADERS = (
    *("mcp-protocol-version", "mcp-session-id", "www-authenticate", "x-request-id"),
    *("retry-after", "ratelimit", "ratelimit-policy"),
)


class CorsLayer(CORSMiddleware):
    """Starlette's CORS, for requests with an `Origin` only: others do not come from a browser page.

    Their responses lack `Vary: Origin`, which is meant for caches; none may store them (`Cache-Control: no-store`).
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_RESPONSE_HEADERS,
            max_age=600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_browser = scope["type"] == "http" and b"origin" in dict(scope["headers"])
        await (super().__call__ if is_browser else self.app)(scope, receive, send)
