"""OAuth protected resource metadata (RFC 9728): tells clients which authorization server issues tokens."""

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_WELL_KNOWN = "/.well-known/oauth-protected-resource"


class ResourceMetadata:
    """The document, served at the paths where clients look for it (RFC 9728, section 3.1).

    Behind a proxy that strips a path, only what is below that path is sure to arrive here: the challenge names that URL
    (section 5.1), and the one of section 3.1 is served for proxies that pass it on. `base` has the stripped path.
    """

    def __init__(self, base: str, endpoint: str, issuer: str, scopes: Callable[[], Iterable[str]] = tuple) -> None:
        whole = _WELL_KNOWN + urlsplit(base).path + endpoint
        self.paths = tuple(dict.fromkeys((whole, _WELL_KNOWN + endpoint, _WELL_KNOWN)))
        self.url = base + _WELL_KNOWN + endpoint
        self._document: dict[str, str | list[str]] = {
            "resource": base + endpoint,
            "authorization_servers": [issuer],
            "bearer_methods_supported": ["header"],
        }
        self._scopes = scopes

    def routes(self) -> list[Route]:
        return [Route(path, self._show) for path in self.paths]

    async def _show(self, _: Request) -> Response:
        supported = sorted(self._scopes())
        return JSONResponse(self._document | ({"scopes_supported": supported} if supported else {}))
