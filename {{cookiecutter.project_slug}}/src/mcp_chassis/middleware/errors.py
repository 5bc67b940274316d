"""The router's own refusals (404, 405, a wrong query) in the same form as those of the layers."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler, Receive, Scope, Send

from .responses import Refusal

_DETAILS = {
    404: "There is nothing at this path.",
    405: "This method is not served here. See the Allow header.",
}


class _Answer(Response):
    """A refusal in the shape that Starlette's exception handlers return."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(status_code=refusal.status)
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._refusal(scope, receive, send)


async def _on_http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  (what the handler is registered for)
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    detail = _DETAILS.get(error.status_code, error.detail)
    return _Answer(Refusal(error.status_code, detail, headers=headers))


EXCEPTION_HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {HTTPException: _on_http_exception}
