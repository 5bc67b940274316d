"""The server under attack: a process of its own, in a temporary directory, with two keys and without call limits.

A successful attack may end it, hang it or read its environment, and a tool such as `SafeRoot("notes")` writes into the
directory that the server is started in: it must not be the project's.
"""

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ...app import create_app
from ...auth.keys.format import digest, id_of
from ...auth.keys.records import KeyRecord, format_records
from ...auth.principal import ALL_SCOPES
from ...calls.declarations import ToolPolicy, policy_of
from ...events.logging import configure_logging
from ...http.server import make_server
from ...service import Service, imported_service
from ...settings import load_settings
from ..process import ServerProcess, server_process
from .subjects import Fixture


def target(
    directory: Path, other_key: str, environment: dict[str, str], service: Service, fixture: Fixture
) -> AbstractContextManager[ServerProcess]:
    """Start the server, without rate limits, and kill it at the end.

    Args:
        other_key: a second key, of a principal whose data the first must never see.
        environment: secrets that it must not reveal.
        fixture: makes the state to start from.
    """
    record = KeyRecord(
        id=id_of(other_key), name="other", scopes=(ALL_SCOPES,), sha256=digest(other_key), created=datetime.now(UTC)
    )
    settings = {"enable_rate_limit": "false", "enable_request_logging": "false", "environment": "development"}
    settings |= {"keys": format_records([record])} | environment
    return server_process(directory, program=("-m", __name__, service.module, fixture.module), **settings)


def serve(module: str, fixture: str) -> None:
    """Serve what a module holds as `SERVER` until killed, in the process under attack."""
    service = imported_service(module)
    Fixture(fixture).prepare(Path.cwd())
    settings = load_settings(service.settings)
    configure_logging("CRITICAL", log_format="json", secrets=settings.secrets)
    for function in service.tools:  # limits of calls would only hide the tools behind them
        replace(policy_of(function, ToolPolicy), calls_per_minute=None)(function)
    make_server(create_app(settings, service), settings).run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
