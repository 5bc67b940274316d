"""The refusals of the layers: RFC 9457 problem documents, small and constant."""

import json
from collections.abc import Sequence
from http import HTTPStatus

from starlette.types import Message, Receive, Scope, Send

from ..http.current_request import current_request


class Refusal:
    """An ASGI application that answers every request with the same error.

    Args:
        status: the HTTP status code.
        detail: a sentence for the client: what was wrong and what to do.
        headers: further response headers, lower-case names.
        close: end the connection afterwards, when the rest of the request will not be read.
    """

    def __init__(
        self, status: int, detail: str, *, headers: Sequence[tuple[bytes, bytes]] = (), close: bool = False
    ) -> None:
        self.status = status
        document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        self._body = json.dumps(document, separators=(",", ":")).encode()
        self._headers = [
            (b"content-type", b"application/problem+json"),
            *headers,
            *([(b"connection", b"close")] if close else []),
        ]

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, *, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Send the refusal, with `headers` that are known only now."""
        request = current_request.get()
        body = self._body
        if request is not None:  # an id needs no escapes: `request_context` accepts no other characters
            body = b'%b,"request_id":"%b"}' % (body[:-1], request.request_id.encode())
        await _send(send, self.status, body, [*self._headers, *headers])


async def send_json(send: Send, status: int, document: object, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Send one JSON document."""
    await _send(send, status, json.dumps(document, separators=(",", ":")).encode(), headers)


async def _send(send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    start: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
