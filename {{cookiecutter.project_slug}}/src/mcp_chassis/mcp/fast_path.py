"""The path of an ordinary message: parsed once, and handed to the SDK's own runner.

The SDK's HTTP entries parse the body again, turn it into models and back, and start a task group and several streams
for each request of an older client. For an answer that is one JSON document, that is most of what it costs.
Validation, middleware, handlers and the shape of results are the SDK's either way; whatever is unusual, and whatever
would be refused, takes the SDK's path. A call of a plain tool goes straight to the guard: the SDK has validated its
envelope once, and nothing would read the runner's context. `FAST_PATH=false` switches this off.
"""

import functools
import json
from collections.abc import Awaitable, Mapping
from typing import Any, TypeGuard

import anyio
import pydantic_core
from mcp import types
from mcp.types import SERVER_INFO_META_KEY, CallToolRequestParams, CallToolResult, JSONRPCError, TextContent
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from ..calls.tools import GuardedTool
from ..middleware.request_body import replayed
from . import sdk
from .guarded_server import GuardedServer

_METHODS = frozenset(
    {
        *("tools/call", "tools/list", "resources/read", "resources/list", "resources/templates/list"),
        *("prompts/get", "prompts/list"),
    }
)
_JSON = (b"content-type", b"application/json")
_DEFAULT_VERSION = types.DEFAULT_NEGOTIATED_VERSION.encode()
_MEMBERS, _PARAMS = {"jsonrpc", "id", "method", "params"}, {"name", "arguments", "_meta"}
_MAX_META_BYTES = 2048  # of an envelope that is remembered


@functools.lru_cache(64)
def _accepts_json(accept: bytes) -> bool:
    is_accepted, _ = sdk.check_accept_headers(Request({"type": "http", "headers": [(b"accept", accept)]}))
    return is_accepted


class DirectEntry:
    """Serves what it recognises.

    Args:
        server: the SDK's low-level server.
        guarded: whose plain tools are called directly, unless something that was added has to see every call.
    """

    def __init__(self, server: sdk.Server[Any], guarded: GuardedServer | None = None) -> None:
        self._server = server
        self._guarded = guarded if guarded is not None and type(guarded).call_tool is GuardedServer.call_tool else None
        self._stamp, self._known = server.server_info_stamp, list[object]()
        self._never = anyio.Event()

    async def serve(
        self, message: Mapping[str, Any], lifespan_state: Any, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        """Answer a message and return True, or return False and touch nothing.

        Args:
            message: the body, already checked to be one JSON-RPC message.
            lifespan_state: what the server's lifespan yields.
            scope: of the request.
            receive: gives the body once more, then waits for the client to disconnect.
            send: takes the answer.
        """
        message_id, headers = message.get("id"), dict(scope["headers"])
        if message.get("method") not in _METHODS or message_id is None or not message.keys() <= _MEMBERS:
            return False
        version = headers.get(b"mcp-protocol-version", _DEFAULT_VERSION).decode("latin-1")
        is_modern = version in sdk.MODERN_PROTOCOL_VERSIONS
        if not is_modern and version not in sdk.HANDSHAKE_PROTOCOL_VERSIONS:
            return False
        has_duplicates = len(headers) != len(scope["headers"])
        if has_duplicates or b"mcp-session-id" in headers or not _accepts_json(headers.get(b"accept", b"")):
            return False
        call: Awaitable[dict[str, Any]]
        if (tool := self._plain_tool(message, headers, version)) is not None:
            await receive()
            call = self._call(tool, message["params"]["arguments"], version)
        elif (connection := self._connection(message, headers, version)) is not None:
            # The body is kept for a tool that wants to see it; only the client's disconnect is left to receive.
            request = Request(scope, replayed(await receive(), receive))
            call = self._run(connection, request, message, lifespan_state)
        else:
            return False
        status = 200
        try:
            document = {"jsonrpc": "2.0", "id": message_id, "result": await call}
            body = pydantic_core.to_json(document, inf_nan_mode="null")
        except Exception as exception:  # as in the SDK's entries; the next line logs it
            error = sdk.modern_error_data(exception)
            status = sdk.ERROR_CODE_HTTP_STATUS.get(error.code, 200) if is_modern else 200
            answer = JSONRPCError(jsonrpc="2.0", id=message_id, error=error)
            text = answer.model_dump_json(by_alias=True, exclude_none=is_modern, exclude_unset=not is_modern)
            body = text.encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [_JSON, length]})
        await send({"type": "http.response.body", "body": body})
        return True

    def _plain_tool(
        self, message: Mapping[str, Any], headers: Mapping[bytes, bytes], version: str
    ) -> GuardedTool | None:
        """Return the tool of a call that holds nothing but a plain tool's arguments and a valid `_meta`."""
        params = message.get("params")
        if self._guarded is None or message["method"] != "tools/call" or not isinstance(params, dict):
            return None
        name, meta = params.get("name"), pydantic_core.to_json(params.get("_meta", {}))
        tool = self._guarded.guarded_tools.get(name) if isinstance(name, str) else None
        has_more = not isinstance(params.get("arguments"), dict) or not params.keys() <= _PARAMS
        if tool is None or not tool.is_plain or has_more or len(meta) > _MAX_META_BYTES:
            return None
        names = (headers.get(b"mcp-method"), headers.get(b"mcp-name"))
        if version in sdk.MODERN_PROTOCOL_VERSIONS and names != (b"tools/call", tool.tool.name.encode()):
            return None
        if self._server.middleware != self._known:
            if not all(map(_is_known, self._server.middleware)):  # another one has to see every call
                return None
            self._known = list(self._server.middleware)
        return tool if _is_valid(version, meta) else None

    async def _call(self, tool: GuardedTool, arguments: dict[str, Any], version: str) -> dict[str, Any]:
        assert self._guarded is not None  # noqa: S101  (it has the tool)
        return self._document(await self._guarded.call_plain(tool, arguments), version)

    def _document(self, result: CallToolResult, version: str) -> dict[str, Any]:
        """Return a result as the SDK writes it. For texts and a structure it would make two more models."""
        texts, meta = [block for block in result.content if _is_bare(block)], result.meta or {}
        is_sound = type(result) is CallToolResult and type(result.is_error) is bool and type(result.result_type) is str
        if not is_sound or len(texts) < len(result.content) or None in meta.values():
            runner = self._runner(sdk.Connection.from_envelope(version, None, None))
            return runner._serialize("tools/call", version, result)
        document: dict[str, Any] = {"_meta": result.meta} if result.meta is not None else {}
        document |= {"content": [{"text": one.text, "type": "text"} for one in texts], "isError": result.is_error}
        is_modern = version in sdk.MODERN_PROTOCOL_VERSIONS
        document |= {"resultType": result.result_type} if is_modern else {}
        if result.structured_content is not None:
            document["structuredContent"] = result.structured_content
        if is_modern:
            document["_meta"] = {**meta, SERVER_INFO_META_KEY: meta.get(SERVER_INFO_META_KEY, self._stamp)}
        return document

    def _connection(
        self, message: Mapping[str, Any], headers: Mapping[bytes, bytes], version: str
    ) -> sdk.Connection | None:
        """Return the connection for a message that the SDK's entry would pass on to the runner as it is."""
        if version not in sdk.MODERN_PROTOCOL_VERSIONS:
            return sdk.Connection.from_envelope(version, None, None)
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        route = sdk.classify_inbound_request(message, headers=texts)
        if isinstance(route, sdk.InboundLadderRejection):
            return None
        if message["method"] == "tools/call" and self._is_marked(message["params"].get("name")):
            return None
        return sdk.Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)

    def _is_marked(self, name: Any) -> bool:
        """Whether the tool wants arguments repeated in `Mcp-Param-*` headers, which the SDK's entry compares."""
        schema = self._server.get_tool_input_schema(name) if self._server.get_tool_input_schema is not None else None
        return schema is None or "x-mcp-header" in json.dumps(schema)

    async def _run(
        self, connection: sdk.Connection, request: Request, message: Mapping[str, Any], lifespan_state: Any
    ) -> dict[str, Any]:
        is_modern = connection.protocol_version in sdk.MODERN_PROTOCOL_VERSIONS
        context = sdk._SingleExchangeDispatchContext(
            transport=sdk.TransportContext(
                kind="streamable-http", can_send_request=False, headers=request.headers if is_modern else None
            ),
            request_id=message["id"],
            message_metadata=sdk.ServerMessageMetadata(request_context=request, can_send_request=False),
            cancel_requested=self._never,  # a client that wants to cancel closes the connection
        )
        try:
            runner = self._runner(connection, lifespan_state)
            # `on_request` would keep itself alive.
            return await runner._on_request(context, message["method"], message.get("params"))
        finally:
            # To close an empty one takes a twentieth of a call.
            if connection.exit_stack._exit_callbacks:  # type: ignore[attr-defined]  # of Python's own
                await sdk.aclose_shielded(connection)

    def _runner(self, connection: sdk.Connection, lifespan_state: Any = None) -> sdk.ServerRunner[Any]:
        return sdk.ServerRunner(self._server, connection, lifespan_state)


def _is_known(middleware: object) -> bool:
    owner = getattr(middleware, "__self__", None)
    return isinstance(middleware, sdk.RequestStateBoundary) or isinstance(owner, GuardedServer)


def _is_bare(block: object) -> TypeGuard[TextContent]:
    """Whether a block is a text and nothing else. A tool may have made one that breaks the model."""
    if type(block) is not TextContent or block.annotations is not None or block.meta is not None:
        return False
    return block.type == "text" and type(block.text) is str


@functools.lru_cache(256)
def _is_valid(version: str, meta: bytes) -> bool:
    """Whether the SDK accepts a call with this `_meta`. A client sends the same with every request."""
    params: dict[str, Any] = {"name": "tool", "arguments": {}, "_meta": pydantic_core.from_json(meta)}
    try:
        sdk.validate_client_request("tools/call", version, params)
        CallToolRequestParams.model_validate(params, by_name=False)
    except (KeyError, ValidationError):
        return False
    message = {"method": "tools/call", "params": params}
    headers = {"mcp-protocol-version": version, "mcp-method": "tools/call", "mcp-name": "tool"}
    is_old = version not in sdk.MODERN_PROTOCOL_VERSIONS
    return is_old or not isinstance(sdk.classify_inbound_request(message, headers=headers), sdk.InboundLadderRejection)
