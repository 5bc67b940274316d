"""OAuth protected resource metadata (RFC 9728): tells clients which authorization server issues tokens."""

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_WELL_KNOWN = "/.well-known/oauth-protected-resource"


class ResourceMetadata:
    """The document, served at the two paths where clients look for it (RFC 9728, section 3.1).

    Args:
        resource: this server's resource URL.
        issuer: the authorization server that issues tokens for it.
        scopes: returns the scopes that clients request at first.
    """

    def __init__(self, resource: str, issuer: str, scopes: Callable[[], Iterable[str]] = tuple) -> None:
        parts = urlsplit(resource)
        self.paths = (_WELL_KNOWN + parts.path, _WELL_KNOWN)
        self.url = f"{parts.scheme}://{parts.netloc}{self.paths[0]}"
        self._document: dict[str, str | list[str]] = {
            "resource": resource,
            "authorization_servers": [issuer],
            "bearer_methods_supported": ["header"],
        }
        self._scopes = scopes

    def routes(self) -> list[Route]:
        """Return the routes of both paths."""
        return [Route(path, self._show) for path in self.paths]

    async def _show(self, _: Request) -> Response:
        supported = sorted(self._scopes())
        return JSONResponse(self._document | ({"scopes_supported": supported} if supported else {}))
