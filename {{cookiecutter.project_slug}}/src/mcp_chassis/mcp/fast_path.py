"""The path of an ordinary message: parsed once, and handed to the SDK's own runner.

The SDK's HTTP entries parse the body again, turn it into models and back, and start a task group and several streams
for each request of an older client. For an answer that is one JSON document, that is most of what it costs.
Validation, middleware, handlers and the shape of results are the SDK's either way; whatever is unusual, and whatever
would be refused, takes the SDK's path. `benchmarks/README.md` of the template has the figures; `FAST_PATH=false`
switches this off.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

import anyio
import pydantic_core
from mcp.types import DEFAULT_NEGOTIATED_VERSION, CallToolResult, JSONRPCError, TextContent
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from ..middleware.request_body import replayed
from . import sdk

_METHODS = frozenset(
    {
        *("tools/call", "tools/list", "resources/read", "resources/list", "resources/templates/list"),
        *("prompts/get", "prompts/list"),
    }
)
_JSON = (b"content-type", b"application/json")
_MAX_ENVELOPE_BYTES = 2048  # of a client that is remembered


@functools.lru_cache(64)
def _accepts_json(accept: bytes) -> bool:
    is_accepted, _ = sdk.check_accept_headers(Request({"type": "http", "headers": [(b"accept", accept)]}))
    return is_accepted


class DirectEntry:
    """Serves what it recognises.

    Args:
        server: the SDK's low-level server.
    """

    def __init__(self, server: sdk.Server[Any]) -> None:
        self._server = server
        self._marked: dict[str, tuple[object, bool]] = {}
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
        method, params, message_id = message.get("method"), message.get("params"), message.get("id")
        if method not in _METHODS or message_id is None:
            return False
        fields = dict(scope["headers"])
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in fields.items() if name[:4] == b"mcp-"
        }
        version = headers.get("mcp-protocol-version", DEFAULT_NEGOTIATED_VERSION)
        is_modern = version in sdk.MODERN_PROTOCOL_VERSIONS
        if not is_modern and version not in sdk.HANDSHAKE_PROTOCOL_VERSIONS:
            return False
        has_duplicates = len(fields) != len(scope["headers"])
        if has_duplicates or "mcp-session-id" in headers or not _accepts_json(fields.get(b"accept", b"")):
            return False
        envelope: tuple[str, Any, Any] = (version, None, None)
        if is_modern:
            route = sdk.classify_inbound_request(message, headers=headers)
            if isinstance(route, sdk.InboundLadderRejection) or (method == "tools/call" and self._is_marked(params)):
                return False
            envelope = (route.protocol_version, route.client_info, route.client_capabilities)
        connection = connect(*envelope)
        # The body is kept for a tool that wants to see it; only the client's disconnect is left to receive.
        request = Request(scope, replayed(await receive(), receive))
        context = sdk._SingleExchangeDispatchContext(
            transport=sdk.TransportContext(
                kind="streamable-http", can_send_request=False, headers=request.headers if is_modern else None
            ),
            request_id=message_id,
            message_metadata=sdk.ServerMessageMetadata(request_context=request, can_send_request=False),
            cancel_requested=self._never,  # a client that wants to cancel closes the connection
        )
        status = 200
        try:
            try:
                runner = DirectRunner(self._server, connection, lifespan_state)
                result = await runner._on_request(context, method, params)  # `on_request` would keep itself alive
            finally:
                # To close an empty one takes a twentieth of a call.
                if connection.exit_stack._exit_callbacks:  # type: ignore[attr-defined]  # of Python's own
                    await sdk.aclose_shielded(connection)
            body = pydantic_core.to_json({"jsonrpc": "2.0", "id": message_id, "result": result})
        except Exception as exception:  # as in the SDK's entries; the next line logs it
            error = sdk.modern_error_data(exception)
            status = sdk.ERROR_CODE_HTTP_STATUS.get(error.code, 200) if is_modern else 200
            document = JSONRPCError(jsonrpc="2.0", id=message_id, error=error)
            text = document.model_dump_json(by_alias=True, exclude_none=is_modern, exclude_unset=not is_modern)
            body = text.encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [_JSON, length]})
        await send({"type": "http.response.body", "body": body})
        return True

    def _is_marked(self, params: Any) -> bool:
        """Whether the tool wants arguments repeated in `Mcp-Param-*` headers, which the SDK's entry compares."""
        name = params.get("name")
        schema = self._server.get_tool_input_schema(name) if self._server.get_tool_input_schema is not None else None
        if schema is None:
            return True
        known, marked = self._marked.get(name, (None, False))
        if known is not schema:
            marked = "x-mcp-header" in json.dumps(schema)
            self._marked[name] = (schema, marked)
        return marked


def connect(version: str, info: Any, capabilities: Any) -> sdk.Connection:
    """Return the connection of one request.

    Args:
        version: of the protocol.
        info: the client's name and version as it sent them, None if it did not.
        capabilities: of the client, as it sent them.
    """
    envelope = pydantic_core.to_json([info, capabilities])
    if len(envelope) > _MAX_ENVELOPE_BYTES:
        return sdk.Connection.from_envelope(version, info, capabilities)
    client = _client(version, envelope)
    connection = sdk.Connection(client.outbound, protocol_version=version, client_params=client.client_params)
    connection.client_capabilities = client.client_capabilities
    connection.initialized.set()
    return connection


@functools.lru_cache(256)
def _client(version: str, envelope: bytes) -> sdk.Connection:
    """Return a connection that nothing runs on. A client sends the same description with every request."""
    return sdk.Connection.from_envelope(version, *pydantic_core.from_json(envelope))


class DirectRunner(sdk.ServerRunner[Any]):
    """Writes the ordinary result of a tool, texts and perhaps a structure, as the SDK does after two more models."""

    def _serialize(self, method: str, version: str, result: sdk.HandlerResult) -> dict[str, Any]:
        if type(result) is not CallToolResult or None in (result.meta or {}).values():
            return super()._serialize(method, version, result)
        texts = [t for t in result.content if type(t) is TextContent and t.annotations is None and t.meta is None]
        if len(texts) < len(result.content):
            return super()._serialize(method, version, result)
        document: dict[str, Any] = {"_meta": result.meta} if result.meta is not None else {}
        document |= {"content": [{"text": one.text, "type": one.type} for one in texts], "isError": result.is_error}
        if version in sdk.MODERN_PROTOCOL_VERSIONS:
            document["resultType"] = result.result_type
        if result.structured_content is not None:
            document["structuredContent"] = result.structured_content
        return self._stamp_server_info(version, document)
