"""Metrics for Prometheus: at `/metrics`, behind authentication, or on a port of their own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..http.routes import ExactRoute
from ..rooms import Room
from ..settings.fields import Port, RoomSettings, SettingsFields

if TYPE_CHECKING:
    from ..parts import Parts
    from ..settings import Settings

METRICS = "/metrics"


class TelemetrySettings(RoomSettings):
    """A port of its own for `/metrics`, if there is to be one."""

    metrics_port: Port | None = None
    metrics_host: str = "127.0.0.1"

    def problems(self, settings: SettingsFields) -> Iterator[str]:
        """Say what keeps the port from being opened."""
        if self.metrics_port == settings.port:
            yield "METRICS_PORT: is the same as PORT. Choose another, or leave it empty for /metrics on PORT."


class Telemetry(Room):
    """Serves the metrics."""

    settings = TelemetrySettings

    def assemble(self, parts: "Parts") -> None:
        """Add the route, unless there is a port for it."""
        if parts.settings.room(TelemetrySettings).metrics_port is None:
            from .metrics import metrics_route  # noqa: PLC0415  (at the start of a server, not of every command)

            parts.routes.append(ExactRoute(METRICS, metrics_route))
            parts.protected[METRICS] = "metrics:read"

    @contextmanager
    def around(self, settings: "Settings", *, processes: int) -> Iterator[None]:
        """Open the port, and let several processes count together."""
        from .metrics import metrics_port, shared_metrics  # noqa: PLC0415

        own = settings.room(TelemetrySettings)
        with ExitStack() as stack:
            if processes > 1:
                stack.enter_context(shared_metrics())
            if own.metrics_port is not None:
                stack.enter_context(metrics_port(own.metrics_port, own.metrics_host))
            yield


ROOM = Telemetry()
