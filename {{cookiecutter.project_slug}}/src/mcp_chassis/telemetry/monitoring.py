"""Switches on, as the settings say, what watches the server from outside: audit trail, traces, a port for metrics."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from prometheus_client import start_http_server

from ..audit_trail.trail import AuditTrail, current_trail
from ..settings import Settings, SettingsError
from .metrics import registry


def make_trail(settings: Settings, service: str) -> AuditTrail | None:
    """Return the audit trail, if there is to be one.

    Raises:
        SettingsError: if its file cannot be used.
    """
    if settings.audit_file is None or settings.audit_key is None:
        return None
    try:
        return AuditTrail(settings.audit_file, settings.audit_key.get_secret_value(), service=service)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError([f"AUDIT_FILE: {settings.audit_file} cannot be written: {reason}."]) from None


@contextmanager
def recording(settings: Settings, trail: AuditTrail | None, *, service: str, version: str) -> Iterator[None]:
    """Write the audit trail and export traces while the block runs, of calls made by the block too."""
    stop = None
    current_trail.set(trail)
    if settings.otel_exporter_otlp_endpoint is not None:
        from .tracing import export_traces  # noqa: PLC0415  (needs the extra `otel`)

        stop = export_traces(settings.otel_exporter_otlp_endpoint, service=service, version=version)
    if trail is not None:
        trail.start()
    try:
        yield
    finally:
        if trail is not None:
            trail.close()
        if stop is not None:
            stop()


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Let the processes that the block starts count together, unless the environment already says where."""
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
def metrics_port(settings: Settings) -> Iterator[None]:
    """Serve metrics on a port of their own while the block runs, if there is to be one. With several processes, that
    is for the one that starts the others.

    Raises:
        SettingsError: if the port is taken.
    """
    if settings.metrics_port is None:
        yield
        return
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host, registry())
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        raise SettingsError([f"METRICS_PORT: {where} cannot be listened on: {error.strerror}."]) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
