"""Numbers for Prometheus, at a route or on a port of their own.

Every label has few values: what a client makes up is counted under one name.

Counting is on the way of every request, so a metric's children are cached: a look-up costs a tenth of the library's
`labels()`. With PROMETHEUS_MULTIPROC_DIR set before the start, processes count into files of that
directory, and each of them can return the sum.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.requests import Request
from starlette.responses import Response

from ..settings import cannot_listen

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which nothing asks for
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

# One histogram counts and times: its `_count` is the number of requests, or of calls.
_timed = partial(Histogram, buckets=(0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0))
_http_requests = cache(
    _timed("mcp_http_request_duration_seconds", "HTTP requests, to the end.", ["route", "status"]).labels
)
_tool_calls = cache(
    _timed("mcp_tool_call_duration_seconds", "Tool calls, by how they ended.", ["tool", "outcome"]).labels
)
_decisions = cache(Counter("mcp_rate_limit_decisions", "Decisions of the limiters.", ["limiter", "decision"]).labels)
_authentications = cache(Counter("mcp_authentications", "Requests, by what their credential was.", ["result"]).labels)
_events = cache(Counter("mcp_security_events", "Security events.", ["event", "severity"]).labels)

# Counts connections that were opened, or closed if negative.
count_connections = Gauge("mcp_open_connections", "Open HTTP connections.", multiprocess_mode="livesum").inc
_open_streams = Gauge("mcp_open_streams", "Open event streams.", ["kind"], multiprocess_mode="livesum")
for _kind in ("progress", "listen"):
    _open_streams.labels(_kind)

# A series that begins with 1 has not risen, as Prometheus sees it: those of few values begin with 0.
for _result in ("accepted", "anonymous", "absent", "invalid", "ambiguous", "limited", "unverifiable"):
    _authentications(_result).inc(0)
for _limiter in ("requests", "tool", "wrong_credentials"):
    for _decision in ("allowed", "refused"):
        _decisions(_limiter, _decision).inc(0)


def count_http_request(route: str, status: int, seconds: float) -> None:
    """Count one HTTP request. `status` is 0 if the client disconnected first."""
    _http_requests(route, status).observe(seconds)


def count_tool_call(tool: str, outcome: str, seconds: float) -> None:
    """Count one tool call, by how it ended."""
    _tool_calls(tool, outcome).observe(seconds)


def count_decision(limiter: str, *, allowed: bool) -> None:
    """Count what a limiter decided: that of `requests`, of a `tool`, or of `wrong_credentials`."""
    _decisions(limiter, "allowed" if allowed else "refused").inc()


def count_authentication(result: str) -> None:
    """Count a request by what its credential was."""
    _authentications(result).inc()


def count_event(event: str, severity: str, number: int = 1) -> None:
    """Count one security event, or announce with 0 that there may be some."""
    _events(event, severity).inc(number)


def count_audit_lines(number: int, *, written: bool) -> None:
    """Count lines of the audit trail that were written, or lost. Without a trail there is no such metric."""
    _audit_lines()("written" if written else "lost").inc(number)


@cache
def _audit_lines() -> Callable[[str], Counter]:
    lines = cache(Counter("mcp_audit_lines", "Lines of the audit trail.", ["result"]).labels)
    for result in ("written", "lost"):
        lines(result).inc(0)
    return lines


def counted_stream(kind: str) -> AbstractContextManager[Any]:
    """Count an event stream as open while the block runs."""
    return _open_streams.labels(kind).track_inprogress()


class _LiveProcesses(MultiProcessCollector):
    """The sum over processes, without the open connections of one that was killed."""

    def collect(self) -> list[Metric]:
        for path in Path(os.environ[_DIRECTORY]).glob("gauge_live*_*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not _is_alive(pid):
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
        return list(super().collect())  # type: ignore[no-untyped-call]


def registry() -> CollectorRegistry:
    """Return the registry of this process, or that of all processes that share PROMETHEUS_MULTIPROC_DIR."""
    if not os.environ.get(_DIRECTORY):
        return REGISTRY
    shared = CollectorRegistry()
    _LiveProcesses(shared)  # type: ignore[no-untyped-call]
    return shared


def metrics_route(_: Request) -> Response:
    """`GET /metrics`, in Prometheus' text format. Not a coroutine: Starlette runs it in a thread."""
    return Response(generate_latest(registry()), headers={"content-type": CONTENT_TYPE_LATEST})


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:  # another user's process, or a system without this check, is no reason
        return not isinstance(error, ProcessLookupError)
    return True


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Let the processes that the block starts count together, unless the environment already names a directory."""
    if os.environ.get(_DIRECTORY):
        yield
        return
    with TemporaryDirectory(prefix="metrics-") as os.environ[_DIRECTORY]:
        try:
            yield
        finally:
            del os.environ[_DIRECTORY]


@contextmanager
def metrics_port(port: int, host: str) -> Iterator[None]:
    """Serve metrics on a port of their own while the block runs. Of several processes, the parent does.

    Raises:
        SettingsError: if the port is taken.
    """
    try:
        server, thread = start_http_server(port, host, registry())
    except OSError as error:
        raise cannot_listen("METRICS_PORT", host, port, error) from None
    with server:
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
