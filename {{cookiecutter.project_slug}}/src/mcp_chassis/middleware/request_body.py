"""The body of an MCP request, read once: bounded, of one media type, strict JSON. Later layers see the same bytes."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from mcp.types import PROTOCOL_VERSION_META_KEY
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..events.log import EventLog
from ..http.strict_json import InvalidJson, has_more_nodes, parse_json
from .responses import Refusal, json_rpc_error

_LARGE_BYTES = 65_536  # that count as a further request
_MANY_NODES = 1000  # values (members, items, objects, arrays) that any message may hold
_MAX_VERSION = 20  # characters: the SDK repeats it, and no key is so short
_PLACES_OF_MANY = 4  # further requests that a message with more of them counts as

_WRONG_TYPE = Refusal(415, "Send the body as `Content-Type: application/json`, not compressed.")


def parsed_message(scope: Scope) -> dict[str, Any]:
    """Return the message that `RequestBodyLayer` read, or an empty one where it read none."""
    message: dict[str, Any] = scope.get("state", {}).get("mcp_message", {})
    return message


def replayed(body: Message, receive: Receive) -> Receive:
    """Return what gives a body that has been received once more, and then what `receive` gives."""
    messages = [body]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


class _Refused(Exception):
    """The request gets the response that is the argument."""


@dataclass
class RequestBodyLayer:
    """Reads and parses the body of each POST to `endpoint`, and refuses what is not one JSON-RPC message."""

    app: ASGIApp
    events: EventLog
    endpoint: str
    max_bytes: int
    max_nodes: int = 20_000
    _large_message: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != self.endpoint:
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(scope["headers"], receive)
            message = await self._parsed(body, scope)
            if message.get("params", ...) is None:  # some clients send null where JSON-RPC leaves the member out
                del message["params"]
                body = json.dumps(message).encode()
        except ClientDisconnect:
            return  # half a message is not acted upon
        except _Refused as refused:
            (response,) = refused.args
            await response(scope, receive, send)
            return
        scope.setdefault("state", {})["mcp_message"] = message
        await self.app(scope, replayed({"type": "http.request", "body": body, "more_body": False}, receive), send)

    async def _read(self, headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes:
        """Return the body. One that is too large is refused as soon as that is known."""
        if not _is_plain_json(headers):
            raise _Refused(_WRONG_TYPE)
        declared = dict(headers).get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > self.max_bytes:
            raise self._too_large()
        body, has_more = bytearray(), True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > self.max_bytes:
                raise self._too_large()
            has_more = message.get("more_body", False)
        return bytes(body)

    async def _parsed(self, body: bytes, scope: Scope) -> dict[str, Any]:
        """Return the message. A large one counts as several requests."""
        has_many = has_more_nodes(body, _MANY_NODES)
        if places := len(body) // _LARGE_BYTES + _PLACES_OF_MANY * has_many:
            take_places = scope.get("state", {}).get("take_places")
            if take_places is not None and (refusal := await take_places(places)) is not None:
                raise _Refused(refusal)
            # Held until the event loop has been round once: between two large messages all others are served.
            await self._large_message.acquire()
            asyncio.get_running_loop().call_soon(self._large_message.release)
        try:
            message: dict[str, Any] = parse_json(body, max_nodes=self.max_nodes)  # an object: see `_envelope_flaw`
        except InvalidJson as error:
            raise self._invalid(-32700, f"Parse error: {error}") from None
        if flaw := _envelope_flaw(message) or _excess(message, len(body), has_many=has_many):
            raise self._invalid(-32600, f"Invalid request: {flaw}")
        return message

    def _too_large(self) -> _Refused:
        return _Refused(Refusal(413, f"The body is larger than {self.max_bytes} bytes."))

    def _invalid(self, code: int, text: str) -> _Refused:
        self.events.record("input_validation_failed", reason=text)
        return _Refused(json_rpc_error(400, {"code": code, "message": text}))


def _is_plain_json(headers: list[tuple[bytes, bytes]]) -> bool:
    types = [value for name, value in headers if name == b"content-type"]
    if len(types) != 1 or b"content-encoding" in dict(headers):
        return False
    media_type, _, parameter = types[0].partition(b";")
    charset = parameter.replace(b" ", b"").replace(b'"', b"").lower()
    return media_type.strip().lower() == b"application/json" and charset in {b"", b"charset=utf-8"}


def _envelope_flaw(message: Any) -> str | None:
    """Return what keeps `message` from being JSON-RPC 2.0 as MCP uses it. The SDK would echo the message instead."""
    if not isinstance(message, dict):
        return "send one JSON-RPC message, not a batch"
    params, error = message.get("params"), message.get("error")
    meta = params.get("_meta") if isinstance(params, dict) else None
    version = meta.get(PROTOCOL_VERSION_META_KEY, "") if isinstance(meta, dict) else ""
    is_error = isinstance(error, dict) and type(error.get("code")) is int and isinstance(error.get("message"), str)
    is_response = "id" in message and isinstance(message.get("result"), dict) != is_error
    flaws = (
        (message.get("jsonrpc") != "2.0", '`jsonrpc` must be "2.0"'),
        (type(message.get("id", 0)) not in {str, int}, "`id` must be a string or an integer"),
        (not isinstance(message.get("method", ""), str), "`method` must be a string"),
        (not isinstance(params, dict | None), "`params` must be an object"),
        (len(str(version)) > _MAX_VERSION, f"`{PROTOCOL_VERSION_META_KEY}` is no version of the protocol"),
        ("method" not in message and not is_response, "it is neither a request, a notification nor a response"),
    )
    return next((text for is_flawed, text in flaws if is_flawed), None)


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
