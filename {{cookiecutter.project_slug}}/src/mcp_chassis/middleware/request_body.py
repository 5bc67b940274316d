"""Reads the body of an MCP request once: bounded, one media type, strict JSON. What follows sees the same bytes."""

from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..events.log import EventLog
from .responses import Refusal, send_json
from .strict_json import InvalidJson, parse_json

_PARSE_ERROR = -32700
_INVALID_REQUEST = -32600


_PARSED = "mcp_message"


def parsed_message(scope: Scope) -> dict[str, Any]:
    """Return the message that the layer read, or an empty one where it read none."""
    message: dict[str, Any] = scope.get("state", {}).get(_PARSED, {})
    return message


class RequestBodyLayer:
    """Args:
    app: the next layer.
    events: where refused bodies are noted.
    endpoint: the path whose POST requests carry MCP messages.
    max_bytes: largest body.
    """

    def __init__(self, app: ASGIApp, *, events: EventLog, endpoint: str, max_bytes: int) -> None:
        self.app = app
        self._events = events
        self._endpoint = endpoint
        self._max_bytes = max_bytes
        self._too_large = Refusal(413, f"The body is larger than {max_bytes} bytes.")
        self._wrong_type = Refusal(415, "Send the body as `Content-Type: application/json`, not compressed.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != self._endpoint:
            await self.app(scope, receive, send)
            return
        if not _is_plain_json(scope["headers"]):
            await self._wrong_type(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except ClientDisconnect:
            return  # nobody is left to read an answer, and half a message is not acted upon
        if body is None:
            await self._too_large(scope, receive, send)
            return
        try:
            message = parse_json(body)
        except InvalidJson as error:
            await self._reject(send, _PARSE_ERROR, f"Parse error: {error}")
            return
        if (flaw := _envelope_flaw(message)) is not None:
            await self._reject(send, _INVALID_REQUEST, f"Invalid request: {flaw}")
            return
        scope.setdefault("state", {})[_PARSED] = message
        await self.app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body, or None as soon as it is known to be too large."""
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared[:20]) > self._max_bytes:
            return None
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)

    async def _reject(self, send: Send, code: int, text: str) -> None:
        self._events.record("input_validation_failed", reason=text)
        document = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": text}}
        await send_json(send, 400, document, [(b"content-type", b"application/json")])


def _is_plain_json(headers: list[tuple[bytes, bytes]]) -> bool:
    types = [value for name, value in headers if name == b"content-type"]
    if len(types) != 1 or any(name == b"content-encoding" for name, _ in headers):
        return False
    media_type, _, parameter = types[0].partition(b";")
    charset = parameter.replace(b" ", b"").replace(b'"', b"").lower()
    return media_type.strip().lower() == b"application/json" and charset in {b"", b"charset=utf-8"}


def _envelope_flaw(message: Any) -> str | None:
    """Say what keeps `message` from being JSON-RPC 2.0 as MCP uses it; the SDK would echo the message instead."""
    if not isinstance(message, dict):
        return "send one JSON-RPC message, not a batch"
    if message.get("jsonrpc") != "2.0":
        return '`jsonrpc` must be "2.0"'
    if type(message.get("id", 0)) not in {str, int}:
        return "`id` must be a string or an integer"
    if not isinstance(message.get("method", ""), str):
        return "`method` must be a string"
    if not isinstance(message.get("params", {}), dict):
        return "`params` must be an object"
    answers = [name for name in ("result", "error") if isinstance(message.get(name), dict)]
    is_complete = "method" in message or ("id" in message and len(answers) == 1)
    return None if is_complete else "it is neither a request, a notification nor a response"


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
