"""Traces: the spans that the SDK makes of every message, sent to an OpenTelemetry collector."""

import re
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..rooms import Room
from ..settings.fields import RoomSettings, SettingsFields

if TYPE_CHECKING:
    from ..parts import Parts


class TracingSettings(RoomSettings):
    """The collector. OpenTelemetry reads its other variables by itself."""

    otel_exporter_otlp_endpoint: str | None = None

    def problems(self, settings: SettingsFields) -> list[str]:
        """Say what keeps traces from being exported."""
        problems = []
        if self.otel_exporter_otlp_endpoint is not None:
            if re.match(r"https?://[^/]", self.otel_exporter_otlp_endpoint) is None:
                problems.append("OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL such as http://127.0.0.1:4318.")
            if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
                problems.append("OTEL_EXPORTER_OTLP_ENDPOINT: needs this project's [otel] extra. Install it.")
        return problems


class Tracing(Room):
    """Exports the traces."""

    settings = TracingSettings

    def assemble(self, parts: "Parts") -> None:
        """Export while the server runs, if there is a collector."""
        endpoint = parts.settings.room(TracingSettings).otel_exporter_otlp_endpoint
        if endpoint is not None:
            from .export import exporting  # noqa: PLC0415  (needs the extra `otel`)

            parts.running.append(partial(exporting, endpoint, service=parts.name, version=parts.version))


ROOM = Tracing()
