"""Metrics on a port of their own, and of several processes together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from prometheus_client import start_http_server

from ..settings import cannot_listen
from .metrics import registry
from .settings import TelemetrySettings


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Let the processes that the block starts count together, unless the environment already names a directory."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        yield
        return
    with TemporaryDirectory(prefix="metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]


@contextmanager
def metrics_port(settings: TelemetrySettings) -> Iterator[None]:
    """Serve metrics on a port of their own while the block runs, if one is set. Of several processes, the parent does.

    Raises:
        SettingsError: if the port is taken.
    """
    if settings.metrics_port is None:
        yield
        return
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host, registry())
    except OSError as error:
        raise cannot_listen("METRICS_PORT", settings.metrics_host, settings.metrics_port, error) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
