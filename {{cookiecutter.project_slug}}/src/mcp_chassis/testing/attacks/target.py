"""The server under attack: a process of its own, in a temporary directory, with two keys and without call limits.

A process of its own because an attack that works may end it, hang it or read its environment, and because a tool such
as `SafeRoot("notes")` ties itself to the directory that it is started in: nothing must land in yours.
"""

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from ...app import create_app
from ...auth.keys.format import digest, new_id, new_key
from ...auth.keys.records import KeyRecord, format_records
from ...auth.principal import ALL_SCOPES
from ...events.logging import configure_logging
from ...http.server import make_server
from ...service import Service, imported_service, unchecked_server
from ...settings import load_settings
from ..process import ServerProcess, server_process


class OtherKey:
    """A second key, for a second principal, whose data the first must never see."""

    def __init__(self) -> None:
        key_id = new_id()
        self.text = new_key(key_id)
        self.record = KeyRecord(
            id=key_id, name="other", scopes=(ALL_SCOPES,), sha256=digest(self.text), created=datetime.now(UTC)
        )


def target(
    directory: Path, other: OtherKey, environment: dict[str, str], service: Service
) -> AbstractContextManager[ServerProcess]:
    """Start the server, without rate limits, and kill it at the end.

    Args:
        directory: where it runs.
        other: the second key.
        environment: what it must not tell.
        service: what it serves.
    """
    settings = {"enable_rate_limit": "false", "enable_request_logging": "false", "environment": "development"}
    settings |= {"keys": format_records([other.record])}
    return server_process(directory, program=("-m", __name__, service.module), **settings, **environment)


def serve(module: str) -> None:
    """Serve what a module holds as `SERVER` until killed, in the process under attack."""
    service = imported_service(module)
    settings = load_settings(service.settings)
    configure_logging("CRITICAL", log_format="json", secrets=settings.secrets)
    server = unchecked_server(service)
    # What keeps callers from trying often would only hide what lies behind it.
    server.guarded_tools = MappingProxyType({n: replace(g, limiter=None) for n, g in server.guarded_tools.items()})
    make_server(create_app(settings, server), settings).run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
