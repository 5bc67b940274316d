"""Whether the server lives, is ready, and how it is doing. The details are for authenticated callers."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response


class Health:
    """The state behind the three health routes.

    Args:
        version: the project's version.
        environment: the setting of that name.
        is_known: whether the caller may see more than the status.
        problems: returns what an operator should repair, a sentence each.
        degraded: whether something is away that the server does without for a while.
    """

    def __init__(
        self,
        *,
        version: str,
        environment: str,
        is_known: Callable[[], bool],
        problems: Callable[[], list[str]] = list,
        degraded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._version = version
        self._environment = environment
        self._is_known = is_known
        self._problems = problems
        self._degraded = degraded
        self._started = time.monotonic()
        self.ready = False
        """True between the end of the start and the beginning of the shutdown."""
        self.open_connections: Callable[[], int] | None = None
        """Set by whoever owns the sockets."""

    async def live(self, _: Request) -> Response:
        """The process runs and its event loop turns."""
        return PlainTextResponse("ok\n")

    async def readiness(self, _: Request) -> Response:
        """The server wants traffic, also while it is degraded: taking every replica out would help nobody."""
        if not self.ready:
            return PlainTextResponse("not ready\n", status_code=503)
        return PlainTextResponse("ready, degraded\n" if self._degraded() else "ready\n")

    async def health(self, _: Request) -> Response:
        """The status for everyone; for authenticated callers what an operator asks first."""
        status: dict[str, object] = {
            "status": "stopping" if not self.ready else "degraded" if self._degraded() else "ok"
        }
        if self._is_known():
            status |= {
                "version": self._version,
                "environment": self._environment,
                "uptime_seconds": round(time.monotonic() - self._started, 1),
                "memory_bytes": memory_bytes(),
                "problems": self._problems(),
                "open_connections": self.open_connections() if self.open_connections is not None else None,
            }
        return JSONResponse(status)


def memory_bytes() -> int | None:
    """Return the memory that this process holds, in bytes; None where the system does not tell without a library."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource  # noqa: PLC0415  (does not exist on Windows)

        return int(statm.read_text().split()[1]) * resource.getpagesize()
    if sys.platform == "darwin":
        import resource  # noqa: PLC0415

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the peak: macOS tells no more
    return None
