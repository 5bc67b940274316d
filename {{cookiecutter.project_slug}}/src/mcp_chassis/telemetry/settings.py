"""Where metrics are served."""

from typing import Annotated

from pydantic import Field

from ..settings.fields import RoomSettings, SettingsFields


class TelemetrySettings(RoomSettings):
    """A port of its own for `/metrics`, if there is to be one."""

    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    metrics_host: str = "127.0.0.1"

    def problems(self, settings: SettingsFields) -> list[str]:
        """Say what keeps the port from being opened."""
        if self.metrics_port != settings.port:
            return []
        return ["METRICS_PORT: is the same as PORT. Choose another, or leave it empty for /metrics on PORT."]
