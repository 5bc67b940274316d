"""Reads the body of an MCP request once: bounded, one media type, strict JSON. What follows sees the same bytes."""

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..events.log import EventLog
from .responses import Refusal, send_json
from .strict_json import InvalidJson, has_more_nodes, parse_json

_PARSE_ERROR = -32700
_INVALID_REQUEST = -32600

_LARGE = 65_536
"""Bytes that count as a further request."""
_MANY = 1000
"""Values (members, items, objects, arrays) that any message may hold. A call of a tool with more of them costs more."""
_PLACES_OF_MANY = 4

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
    max_nodes: most values in a body.
    """

    def __init__(
        self, app: ASGIApp, *, events: EventLog, endpoint: str, max_bytes: int, max_nodes: int = 20_000
    ) -> None:
        self.app = app
        self._events = events
        self._endpoint = endpoint
        self._max_bytes = max_bytes
        self._max_nodes = max_nodes
        self._turn = asyncio.Lock()
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
        has_many = has_more_nodes(body, _MANY)
        places = len(body) // _LARGE + _PLACES_OF_MANY * has_many
        if places and not await self._gets_its_turn(scope, places):
            return
        message, code, flaw = self._judged(body, has_many=has_many)
        if flaw:
            await self._reject(send, code, flaw)
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

    async def _gets_its_turn(self, scope: Scope, places: int) -> bool:
        """Count a large body as several requests, and wait for those before it. False: it has been refused."""
        take_places = scope.get("state", {}).get("take_places")
        if take_places is not None and not await take_places(places):
            return False
        # Held until the event loop has been round once: between two large messages everybody else is served.
        await self._turn.acquire()
        asyncio.get_running_loop().call_soon(self._turn.release)
        return True

    def _judged(self, body: bytes, *, has_many: bool) -> tuple[Any, int, str]:
        """Return the message, and what is wrong with it as the code and the text of an error, which else is empty."""
        try:
            message = parse_json(body, max_nodes=self._max_nodes)
        except InvalidJson as error:
            return None, _PARSE_ERROR, f"Parse error: {error}"
        flaw = _envelope_flaw(message) or _excess(message, len(body), has_many=has_many)
        return message, _INVALID_REQUEST, f"Invalid request: {flaw}" if flaw else ""

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


def _excess(message: dict[str, Any], size: int, *, has_many: bool) -> str | None:
    """Say what is too much for a message that calls no tool: the SDK's ways for these are not made for more."""
    method = message.get("method")
    if method == "tools/call":
        return None
    if size > _LARGE and method != "prompts/get":
        return f"only tools/call and prompts/get may be larger than {_LARGE} bytes"
    if has_many:
        return f"only tools/call may hold more than {_MANY} values"
    return None


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
