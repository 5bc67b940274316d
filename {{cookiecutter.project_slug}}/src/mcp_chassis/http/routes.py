"""Routes: how a path is matched, and those for health: whether the process runs, wants traffic, how it is doing."""

import mmap
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

WELL_KNOWN = "/.well-known/"
"""Begins the paths where clients look for the issuer of tokens (RFC 8615), at the root and below the endpoint.

They hold nothing secret: nothing there needs a credential or is refused for one. Where nothing is served, a challenge
would have clients wait for a login that never comes, and some send what they send to the endpoint, right or wrong.
"""


class ExactRoute(Route):
    """A route without parameters that serves its path and nothing else.

    Starlette's pattern accepts a final newline, so that `/security/events%0a` would be another path to the layers and
    the same one to the router.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope["path"] != self.path:
            return Match.NONE, {}
        is_served = self.methods is None or scope["method"] in self.methods
        return Match.FULL if is_served else Match.PARTIAL, {"endpoint": self.endpoint, "path_params": {}}


@dataclass(kw_only=True)
class Health:
    """Serves the three health routes."""

    version: str
    environment: str
    is_known: Callable[[], bool]  # whether the caller is authenticated and may see more than the status
    open_connections: Callable[[], int]
    problems: Callable[[], list[str]] = list  # returns what an operator should repair, a sentence each
    degraded: Callable[[], bool] = lambda: False  # whether something is unavailable for which the server has a fallback
    failing: Callable[[], Awaitable[list[str]]] | None = None
    """Returns the names of the checks that fail: something without a fallback is unavailable."""
    ready: bool = field(default=False, init=False)  # between the end of the start and the beginning of the shutdown
    _started: float = field(default_factory=time.monotonic, init=False)

    async def live(self, _: Request) -> Response:
        """The process runs and its event loop turns."""
        return PlainTextResponse("ok\n")

    async def readiness(self, _: Request) -> Response:
        """The server wants traffic. That holds while it is degraded: every replica would be at the same time."""
        if not self.ready:
            return PlainTextResponse("not ready\n", status_code=503)
        if self.failing is not None and (names := await self.failing()):
            return PlainTextResponse(f"not ready: {', '.join(names)}\n", status_code=503)
        return PlainTextResponse("ready, degraded\n" if self.degraded() else "ready\n")

    async def health(self, _: Request) -> Response:
        """The status; for authenticated callers also what an operator asks first."""
        status = "stopping" if not self.ready else "degraded" if self.degraded() else "ok"
        report: dict[str, object] = {"status": status}
        if self.is_known():
            report |= {
                "version": self.version,
                "environment": self.environment,
                "uptime_seconds": round(time.monotonic() - self._started, 1),
                "memory_bytes": memory_bytes(),
                "problems": self.problems(),
                "open_connections": self.open_connections(),
            }
        return JSONResponse(report)


def memory_bytes() -> int | None:
    """Return the resident memory of this process in bytes; None where the system has no `/proc`."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * mmap.PAGESIZE if statm.exists() else None
