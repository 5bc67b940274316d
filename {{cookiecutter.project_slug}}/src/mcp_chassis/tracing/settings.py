"""Where traces are sent."""

import re
from importlib.util import find_spec

from ..settings.fields import RoomSettings, SettingsFields


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
