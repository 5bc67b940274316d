"""Serves the same tools to the parent process, over standard input and output."""

from contextlib import nullcontext

import anyio
import structlog
from mcp.server.mcpserver import MCPServer

from ..auth.principal import STDIO, current_principal
from ..parts import Parts


def serve_stdio(mcp: MCPServer, parts: Parts | None = None) -> None:
    """Serve until standard input ends. Standard output belongs to the protocol; logs go to standard error.

    Args:
        mcp: the server.
        parts: what it is assembled from, to be kept running meanwhile.
    """
    # Tasks that serve messages copy this context, so this principal makes every call.
    current_principal.set(STDIO)
    structlog.contextvars.bind_contextvars(transport="stdio")
    anyio.run(_serve, mcp, parts)


async def _serve(mcp: MCPServer, parts: Parts | None) -> None:
    async with parts.run() if parts is not None else nullcontext():
        await mcp.run_stdio_async()
