"""The chassis's test server, which serves the default project unless a test says otherwise."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer

from mcp_chassis.testing import process, running
from mcp_chassis.testing.process import ServerProcess, environment, serves
from mcp_chassis.testing.running import _TLS, RunningServer, free_port, new_secret, text, wait_until
from secure_mcp_server.server import SERVER

from .project import PACKAGE

__all__ = [
    "PACKAGE",
    "SERVER",
    "_TLS",
    "RunningServer",
    "ServerProcess",
    "environment",
    "free_port",
    "new_secret",
    "running_server",
    "server_process",
    "serves",
    "text",
    "wait_until",
]


def running_server(mcp: MCPServer | None = None, **settings: Any) -> AbstractContextManager[RunningServer]:
    """Start a server in a thread of this process. See `mcp_chassis.testing.running`.

    Results are not marked unless a test is about that: most compare what a tool returned.
    """
    return running.running_server(mcp or SERVER, **({"mark_untrusted": False} | settings))


def server_process(
    directory: Path, *, program: Sequence[str] = ("-m", PACKAGE, "serve"), **settings: str
) -> AbstractContextManager[ServerProcess]:
    """Start a server in a process of its own, without marks as above. See `mcp_chassis.testing.process`."""
    return process.server_process(directory, program=program, **({"mark_untrusted": "false"} | settings))
