"""Where metrics are served."""

from ..settings.fields import Port, RoomSettings, SettingsFields


class TelemetrySettings(RoomSettings):
    """A port of its own for `/metrics`, if there is to be one."""

    metrics_port: Port | None = None
    metrics_host: str = "127.0.0.1"

    def problems(self, settings: SettingsFields) -> list[str]:
        """Say what keeps the port from being opened."""
        if self.metrics_port != settings.port:
            return []
        return ["METRICS_PORT: is the same as PORT. Choose another, or leave it empty for /metrics on PORT."]
