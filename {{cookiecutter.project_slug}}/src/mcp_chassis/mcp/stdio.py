"""Serves the same tools to the parent process, over standard input and output."""

import asyncio
import logging
import os
import signal
import sys

import structlog
from mcp.server.mcpserver import MCPServer

from ..auth.principal import STDIO, current_principal
from ..parts import Parts

_CANCEL_SECONDS = 0.2


def serve_stdio(mcp: MCPServer, parts: Parts) -> None:
    """Serve until standard input ends, or SIGTERM, with the parts of the server running meanwhile."""
    # Tasks that serve messages copy this context, so this principal makes every call.
    current_principal.set(STDIO)
    structlog.contextvars.bind_contextvars(transport="stdio")
    asyncio.run(_serve(mcp, parts))


async def _serve(mcp: MCPServer, parts: Parts) -> None:
    stopped = asyncio.Event()
    if sys.platform != "win32":
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with parts.run():
        serving, stop = asyncio.create_task(mcp.run_stdio_async()), asyncio.create_task(stopped.wait())
        await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if serving.done():
            return serving.result()
        serving.cancel()
        await asyncio.wait({serving}, timeout=_CANCEL_SECONDS)
    logging.shutdown()
    os._exit(0)  # everything would wait for the thread that reads standard input, and nothing can stop that
