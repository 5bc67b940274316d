"""The SDK's runner for the fast path: what is the same in every request is made once, and an ordinary result is not
validated again on its way out.
"""

import functools
from typing import Any

import pydantic_core
from mcp.types import CallToolResult, TextContent

from . import sdk

_MAX_ENVELOPE_BYTES = 2048  # of a client that is remembered


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
        if type(result) is not CallToolResult or (texts := _plain_texts(result)) is None:
            return super()._serialize(method, version, result)
        document: dict[str, Any] = {"_meta": result.meta} if result.meta is not None else {}
        document |= {"content": texts, "isError": result.is_error}
        if version in sdk.MODERN_PROTOCOL_VERSIONS:
            document["resultType"] = result.result_type
        if result.structured_content is not None:
            document["structuredContent"] = result.structured_content
        return self._stamp_server_info(version, document)


def _plain_texts(result: CallToolResult) -> list[dict[str, str]] | None:
    """Return the content as it is sent; None if it is more than texts."""
    if result.meta is not None and None in result.meta.values():
        return None
    texts = []
    for block in result.content:
        if type(block) is not TextContent or block.annotations is not None or block.meta is not None:
            return None
        texts.append({"text": block.text, "type": block.type})
    return texts
