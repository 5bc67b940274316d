"""What the layers that only let requests pass or refuse them have in common."""

from starlette.types import ASGIApp, Receive, Scope, Send

from ..events.log import EventLog


class Gate:
    """Answers requests that `refusal` refuses, and passes everything else on.

    Args:
        app: the next layer.
        events: where refusals are recorded.
    """

    def __init__(self, app: ASGIApp, events: EventLog) -> None:
        self.app = app
        self.events = events

    def refusal(self, scope: Scope) -> ASGIApp | None:
        """Return what answers an HTTP request instead of the application; None if nothing is wrong with it."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self.refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)
