"""The server under attack: a process of its own, in a temporary directory, with two keys and without call limits.

A process of its own because an attack that works may end it, hang it or read its environment, and because a tool such
as `SafeRoot("notes")` ties itself to the directory that it is started in: nothing must land in yours.
"""

import os
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from mcp_chassis.app import create_app
from mcp_chassis.auth.keys.format import digest, new_id, new_key
from mcp_chassis.auth.keys.records import KeyRecord, format_records
from mcp_chassis.auth.principal import ALL_SCOPES
from mcp_chassis.events.log import EventLog
from mcp_chassis.events.logging import configure_logging
from mcp_chassis.http.server import make_server
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.service import unchecked_server
from mcp_chassis.settings import Settings, load_settings

from ..processes import ServerProcess, server_process

PROJECT = Path(__file__).parents[3]


class OtherKey:
    """A second key, for a second principal, whose data the first must never see."""

    def __init__(self) -> None:
        key_id = new_id()
        self.text = new_key(key_id)
        self.record = KeyRecord(
            id=key_id, name="other", scopes=(ALL_SCOPES,), sha256=digest(self.text), created=datetime.now(UTC)
        )


def server_of(module: str | None, settings: Settings) -> GuardedServer:
    """Return the project's server, or one with the `TOOLS`, `RESOURCES` and `PROMPTS` of another module."""
    if module is None:
        return unchecked_server(EventLog(), settings)
    listed = import_module(module)
    tools, resources, prompts = (getattr(listed, name, ()) for name in ("TOOLS", "RESOURCES", "PROMPTS"))
    limit = settings.max_result_bytes
    return GuardedServer(
        module, tools=tools, resources=resources, prompts=prompts, events=EventLog(), max_result_bytes=limit
    )


def target(
    directory: Path, other: OtherKey, environment: dict[str, str], module: str | None
) -> AbstractContextManager[ServerProcess]:
    """Start the server, without rate limits, and kill it at the end.

    Args:
        directory: where it runs.
        other: the second key.
        environment: what it must not tell.
        module: serves the tools of that module instead of the project's.
    """
    settings = {"enable_rate_limit": "false", "enable_request_logging": "false", "environment": "development"}
    settings |= {"keys": format_records([other.record]), "pythonpath": os.pathsep.join([str(PROJECT), *sys.path])}
    program = ("-m", __name__, *([module] if module else []))
    return server_process(directory, program=program, **settings, **environment)


def serve(module: str | None = None) -> None:
    """Serve until killed, in the process under attack."""
    settings = load_settings()
    configure_logging("CRITICAL", log_format="json", secrets=settings.secrets)
    server = server_of(module, settings)
    # What keeps callers from trying often would only hide what lies behind it.
    server.guarded_tools = MappingProxyType({n: replace(g, limiter=None) for n, g in server.guarded_tools.items()})
    make_server(create_app(settings, server), settings).run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
