"""Refuses requests that two readers could read in two ways: where they end, whom they are for, which path they name.

What cannot be seen here any more, because h11 has made it uniform, is refused by `strict_http`.
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from .responses import Refusal

# What a host and its port are made of (RFC 3986, section 3.2); which hosts are served is judged further down.
_HOST = re.compile(rb"[A-Za-z0-9._~%-]+(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?")
_CLOSE = (b"connection", b"close")


class MessageFramingLayer:
    """Args:
    app: the next layer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._two_ends = Refusal(400, "Send Content-Length or Transfer-Encoding, not both.", close=True)
        self._no_path = Refusal(400, "Send the path of the URL in the request line, such as /mcp.", close=True)
        self._bad_host = Refusal(400, "The Host header is not a host name with an optional port.", close=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._judge(scope)) is not None:
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _judge(self, scope: Scope) -> Refusal | None:
        ends, expects = 0, False
        for name, value in scope["headers"]:
            if name == b"host":
                if not _HOST.fullmatch(value):
                    return self._bad_host
            elif name in {b"content-length", b"transfer-encoding"}:
                ends += 1  # h11 has already refused two different lengths; of two headers it follows one silently
            expects = expects or name == b"expect"
        if expects:
            # After a refusal the body may come or not (RFC 9110, section 10.1.1): nothing may be read behind it.
            # uvicorn closes after the answer to a request that asks for it.
            scope["headers"].append(_CLOSE)
        if ends > 1:
            return self._two_ends
        # An absolute URL or `host:port` (RFC 9112, section 3.2) names a second host, and is no path that is served.
        return None if scope["raw_path"].startswith(b"/") else self._no_path
