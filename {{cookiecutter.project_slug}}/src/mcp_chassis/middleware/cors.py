"""Lets pages of the trusted origins read what they ask for."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send


class CorsLayer(CORSMiddleware):
    """Starlette's, for browsers only: a request without an `Origin` comes from something else.

    Such an answer lacks `Vary: Origin`, which speaks to caches, and none may keep it (`Cache-Control: no-store`).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_browser = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (super().__call__ if is_browser else self.app)(scope, receive, send)
