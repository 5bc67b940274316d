"""Errors of the router (404, 405, a wrong query) in the same form as those of the layers."""

from typing import cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from .responses import Refusal


def exception_handlers(endpoint: str) -> dict[type[Exception] | int, ExceptionHandler]:
    """Return the handlers for Starlette.

    Args:
        endpoint: the path of the MCP endpoint, which a client with a slash too many is told.
    """
    details = {
        404: f"There is nothing at this path. The MCP endpoint is {endpoint}.",
        405: "This method is not served here. See the Allow header.",
    }

    async def on_http_exception(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  (what the handler is registered for)
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
        refusal = Refusal(error.status_code, details.get(error.status_code, error.detail), headers=headers)
        return cast(Response, refusal)  # Starlette only calls it, as an ASGI application

    return {HTTPException: on_http_exception}
