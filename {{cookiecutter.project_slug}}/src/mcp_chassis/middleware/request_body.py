"""The body of an MCP request, read once: bounded, of one media type, strict JSON. Later layers see the same bytes."""

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..events.log import EventLog
from .responses import Refusal, json_rpc_error
from .strict_json import InvalidJson, has_more_nodes, parse_json

_PARSE_ERROR, _INVALID_REQUEST = -32700, -32600

_LARGE_BYTES = 65_536  # that count as a further request
_MANY_NODES = 1000  # values (members, items, objects, arrays) that any message may hold
_PLACES_OF_MANY = 4  # further requests that a message with more of them counts as


def parsed_message(scope: Scope) -> dict[str, Any]:
    """Return the message that `RequestBodyLayer` read, or an empty one where it read none."""
    message: dict[str, Any] = scope.get("state", {}).get("mcp_message", {})
    return message


def replay(message: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives a message once more, and then what `receive` gives."""
    pending = [message]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


class RequestBodyLayer:
    """Reads and parses the body, and refuses what is not one JSON-RPC message.

    Args:
        app: the next layer.
        events: where refusals are recorded.
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
        self._large_body = asyncio.Lock()
        self._too_large = Refusal(413, f"The body is larger than {max_bytes} bytes.")
        self._wrong_type = Refusal(415, "Send the body as `Content-Type: application/json`, not compressed.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != self._endpoint:
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except ClientDisconnect:
            return  # half a message is not acted upon
        if isinstance(body, Refusal):
            await body(scope, receive, send)
            return
        has_many = has_more_nodes(body, _MANY_NODES)
        places = len(body) // _LARGE_BYTES + _PLACES_OF_MANY * has_many
        if places and not await self._admit_large(scope, places):
            return
        try:
            message = parse_json(body, max_nodes=self._max_nodes)
        except InvalidJson as error:
            await self._reject(_PARSE_ERROR, f"Parse error: {error}", scope, receive, send)
            return
        if flaw := _envelope_flaw(message) or _excess(message, len(body), has_many=has_many):
            await self._reject(_INVALID_REQUEST, f"Invalid request: {flaw}", scope, receive, send)
            return
        scope.setdefault("state", {})["mcp_message"] = message
        await self.app(scope, replay({"type": "http.request", "body": body, "more_body": False}, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | Refusal:
        """Return the body, or what to answer as soon as it is known to be of another type or too large."""
        if not _is_plain_json(scope["headers"]):
            return self._wrong_type
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared[:20]) > self._max_bytes:
            return self._too_large
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                return self._too_large
            if not message.get("more_body", False):
                return bytes(body)

    async def _admit_large(self, scope: Scope, places: int) -> bool:
        """Count a large body as several requests, and let the event loop run between two. False: it was refused."""
        take_places = scope.get("state", {}).get("take_places")
        if take_places is not None and not await take_places(places):
            return False
        # Held until the event loop has been round once: between two large messages all other requests are served.
        await self._large_body.acquire()
        asyncio.get_running_loop().call_soon(self._large_body.release)
        return True

    async def _reject(self, code: int, text: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._events.record("input_validation_failed", reason=text)
        await json_rpc_error(400, {"code": code, "message": text})(scope, receive, send)


def _is_plain_json(headers: list[tuple[bytes, bytes]]) -> bool:
    types = [value for name, value in headers if name == b"content-type"]
    if len(types) != 1 or any(name == b"content-encoding" for name, _ in headers):
        return False
    media_type, _, parameter = types[0].partition(b";")
    charset = parameter.replace(b" ", b"").replace(b'"', b"").lower()
    return media_type.strip().lower() == b"application/json" and charset in {b"", b"charset=utf-8"}


def _envelope_flaw(message: Any) -> str | None:
    """Return what keeps `message` from being JSON-RPC 2.0 as MCP uses it. The SDK would echo the message instead."""
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
    """Return what is too much for a message that calls no tool: the SDK is not made for more in these."""
    method = message.get("method")
    if method == "tools/call":
        return None
    if size > _LARGE_BYTES and method != "prompts/get":
        return f"only tools/call and prompts/get may be larger than {_LARGE_BYTES} bytes"
    if has_many:
        return f"only tools/call may hold more than {_MANY_NODES} values"
    return None
