"""Refuses requests whose end two readers could see in different places (RFC 9112, section 6.1)."""

from starlette.types import ASGIApp, Receive, Scope, Send

from .responses import Refusal


class MessageFramingLayer:
    """Args:
    app: the next layer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._refusal = Refusal(400, "Send Content-Length or Transfer-Encoding, not both.", close=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # h11 has already refused two different lengths; of these two headers it follows one and keeps silent.
        if scope["type"] == "http":
            names = {name for name, _ in scope["headers"]}
            if b"content-length" in names and b"transfer-encoding" in names:
                await self._refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)
