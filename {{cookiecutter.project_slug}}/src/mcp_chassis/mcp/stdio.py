"""Serves the same tools to the program that started this one, over standard input and output."""

import anyio
import structlog
from mcp.server.mcpserver import MCPServer

from ..auth.principal import STDIO, current_principal


def serve_stdio(mcp: MCPServer) -> None:
    """Serve until standard input ends. Standard output belongs to the protocol; logs go to standard error."""
    # Tasks that serve the messages copy this context, so every call is made by this principal.
    current_principal.set(STDIO)
    structlog.contextvars.bind_contextvars(transport="stdio")
    anyio.run(mcp.run_stdio_async)
