"""What the layers have in common that only let requests pass or refuse them."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from ..events.log import EventLog


@dataclass
class Gate:
    """Answers requests that `refusal` refuses, and passes everything else on.

    Args:
        app: the next layer.
        events: where refusals are recorded.
    """

    app: ASGIApp
    events: EventLog

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        """Return what answers an HTTP request instead of the application; None if nothing is wrong with it."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self.refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)
