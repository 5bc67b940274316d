"""Traces: the spans that the SDK makes of every message, sent to an OpenTelemetry collector."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from ..rooms import Room
from .settings import TracingSettings

if TYPE_CHECKING:
    from ..parts import Parts


class Tracing(Room):
    """Exports the traces."""

    settings = TracingSettings

    def assemble(self, parts: "Parts") -> None:
        """Export while the server runs, if there is a collector."""
        endpoint = parts.settings.room(TracingSettings).otel_exporter_otlp_endpoint
        if endpoint is not None:
            parts.running.append(partial(_exporting, endpoint, parts.name, parts.version))


@asynccontextmanager
async def _exporting(endpoint: str, service: str, version: str) -> AsyncIterator[None]:
    from .export import export_traces  # noqa: PLC0415  (needs the extra `otel`)

    stop = export_traces(endpoint, service=service, version=version)
    try:
        yield
    finally:
        stop()


ROOM = Tracing()
