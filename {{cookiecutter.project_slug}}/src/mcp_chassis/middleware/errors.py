"""Errors of the router (404, 405, a wrong query) in the same form as those of the layers."""

from typing import cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from .responses import Refusal

_DETAILS = {
    404: "There is nothing at this path.",
    405: "This method is not served here. See the Allow header.",
}


async def _on_http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  (what the handler is registered for)
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    refusal = Refusal(error.status_code, _DETAILS.get(error.status_code, error.detail), headers=headers)
    return cast(Response, refusal)  # Starlette only calls it, as an ASGI application


EXCEPTION_HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {HTTPException: _on_http_exception}
