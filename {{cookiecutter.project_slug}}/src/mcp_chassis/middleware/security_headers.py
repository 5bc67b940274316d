"""Response headers that make a browser treat this API as data: not sniffed, framed, cached or run."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The list for APIs of the OWASP REST Security Cheat Sheet.
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class SecurityHeadersLayer:
    """Adds the headers where the application has not set them.

    Args:
        app: the next layer.
        https: whether clients reach this server by https; only then may browsers be told to insist on it.
    """

    def __init__(self, app: ASGIApp, *, https: bool = False) -> None:
        self.app = app
        self._headers = (*HEADERS, _HSTS) if https else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = [
                    (name, value + b", no-store" if name.lower() == b"cache-control" else value)
                    for name, value in message["headers"]  # of the SDK's streams: `no-cache, no-transform`
                ]
                names = {name.lower() for name, _ in present}
                message["headers"] = present + [header for header in self._headers if header[0] not in names]
            await send(message)

        await self.app(scope, receive, send_with_headers)
