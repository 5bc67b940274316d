"""Error responses: RFC 9457 problem documents of layers and router, and JSON-RPC errors for MCP messages."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler, Receive, Scope, Send

from ..http.current_request import current_request

# They make a browser treat this API as data: not sniffed, framed, cached or run. The list for APIs of the OWASP REST
# Security Cheat Sheet.
SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)

# RFC 6750, section 3.1, and RFC 6749, section 4.1.2.1. None of them makes a client delete its registration or tokens.
_ERRORS = {
    401: "invalid_token",
    403: "access_denied",
    405: "method_not_allowed",
    429: "too_many_requests",
    500: "server_error",
    503: "temporarily_unavailable",
}


class Refusal:
    """An ASGI application that answers every request with the same problem document.

    It is an OAuth error as well (RFC 6749, section 5.2): where clients expect one, they show its `error_description`,
    and report any other document as malformed.

    `detail` is a sentence for the client: what was wrong and what to do. `error` is the OAuth error code, if it is not
    that of the status. Names of `headers` are in lower case.
    """

    def __init__(
        self, status: int, detail: str, *, headers: Sequence[tuple[bytes, bytes]] = (), error: str | None = None
    ) -> None:
        self._status = status
        # mcp-remote takes any error with the title of a 401 for a login that has begun, and waits for its end.
        title = {"title": HTTPStatus(status).phrase} if status != HTTPStatus.UNAUTHORIZED else {}
        document = {
            "type": "about:blank",
            **title,
            "status": status,
            "detail": detail,
            "error": error or _ERRORS.get(status, "invalid_request"),
            "error_description": detail,
        }
        self._body = json.dumps(document, separators=(",", ":")).encode()
        self._headers = ((b"content-type", b"application/problem+json"), *headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request.get()
        body = self._body
        if request is not None:  # an id needs no escapes: `request_context` accepts no other characters
            body = b'%b,"request_id":"%b"}' % (body[:-1], request.request_id.encode())
        headers = [*self._headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def json_rpc_error(
    status: int, error: Mapping[str, object], *, message_id: object = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the response to one MCP message: an `error`, under the id of the message if that is one."""
    known_id = message_id if isinstance(message_id, str | int) else None
    return JSONResponse({"jsonrpc": "2.0", "id": known_id, "error": error}, status, headers)


def exception_handlers(endpoint: str) -> dict[type[Exception] | int, ExceptionHandler]:
    """Return the handlers of the router's errors: 404, which names the path of the endpoint, 405, a wrong query."""
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
