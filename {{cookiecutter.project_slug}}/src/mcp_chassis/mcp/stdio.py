"""Serves the same tools to the parent process, over standard input and output."""

import anyio
import structlog
from mcp.server.mcpserver import MCPServer

from ..auth.principal import STDIO, current_principal
from ..parts import Parts


def serve_stdio(mcp: MCPServer, parts: Parts | None = None) -> None:
    """Serve until standard input ends. Standard output belongs to the protocol; logs go to standard error.

    Args:
        mcp: the server.
        parts: what it was put together from, to be kept going meanwhile.
    """
    # Tasks that serve the messages copy this context, so every call is made by this principal.
    current_principal.set(STDIO)
    structlog.contextvars.bind_contextvars(transport="stdio")
    anyio.run(_serve, mcp, parts)


async def _serve(mcp: MCPServer, parts: Parts | None) -> None:
    if parts is None:
        await mcp.run_stdio_async()
        return
    async with parts.run():
        await mcp.run_stdio_async()
