"""What a tool sends while it runs: progress, log messages, questions. It is filtered as results are."""

from typing import Any

from mcp.types import ServerNotification

from ..calls.output import Output
from . import sdk


class OutgoingSession(sdk.ServerSession):
    """The SDK's session of one request, whose messages are filtered.

    Args:
        session: the session.
        output: filters what is sent.
    """

    def __init__(self, session: sdk.ServerSession, output: Output) -> None:
        vars(self).update(vars(session))
        self._output = output

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        cleaned = self._output.text(message, {"notification": "progress"}) if message else message
        await super().report_progress(progress, total, cleaned)

    async def send_request(self, request: Any, *arguments: Any, **options: Any) -> Any:
        # A user has to see what is asked, whatever it looks like.
        question = self._output.fit(request, {"request": request.method}, redact=False)
        return await super().send_request(question, *arguments, **options)

    async def _notify(self, notification: ServerNotification, *, request_scoped: bool) -> None:
        cleaned = self._output.fit(notification, {"notification": notification.method})
        await super()._notify(cleaned, request_scoped=request_scoped)
