"""Numbers for Prometheus, at a route or on a port of their own.

Every label has few values: what a client makes up is counted under one name.

Counting is on the way of every request, so a metric's children are kept in dictionaries: a look-up costs a tenth of
the library's `labels()`. With PROMETHEUS_MULTIPROC_DIR set before the start, processes count into files of that
directory, and each of them can return the sum.
"""

import functools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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


class _Children(dict[tuple[object, ...], Any]):
    """The children of a metric by the values of their labels."""

    def __init__(self, metric: Counter | Histogram) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, values: tuple[object, ...]) -> Any:
        child = self[values] = self._metric.labels(*values)
        return child


# One histogram counts and times: its `_count` is the number of requests, or of calls.
_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0)
_http_requests = _Children(
    Histogram("mcp_http_request_duration_seconds", "HTTP requests, to the end.", ["route", "status"], buckets=_SECONDS)
)
_tool_calls = _Children(
    Histogram("mcp_tool_call_duration_seconds", "Tool calls, by how they ended.", ["tool", "outcome"], buckets=_SECONDS)
)
_decisions = _Children(Counter("mcp_rate_limit_decisions", "Decisions of the limiters.", ["limiter", "decision"]))
_authentications = _Children(Counter("mcp_authentications", "Requests, by what their credential was.", ["result"]))
_events = _Children(Counter("mcp_security_events", "Security events.", ["event", "severity"]))

_open_connections = Gauge("mcp_open_connections", "Open HTTP connections.", multiprocess_mode="livesum")
_open_streams = Gauge("mcp_open_streams", "Open event streams.", ["kind"], multiprocess_mode="livesum")
for _kind in ("progress", "listen"):
    _open_streams.labels(_kind)

# A series that begins with 1 has not risen, as Prometheus sees it: those of few values begin with 0.
RESULTS = ("accepted", "anonymous", "absent", "invalid", "ambiguous", "limited", "unverifiable")
for _result in RESULTS:
    _authentications[_result,].inc(0)
for _limiter in ("requests", "tool", "wrong_credentials"):
    for _decision in ("allowed", "refused"):
        _decisions[_limiter, _decision].inc(0)


def count_http_request(route: str, status: int, seconds: float) -> None:
    """Count one HTTP request. `status` is 0 if the client disconnected first."""
    _http_requests[route, status].observe(seconds)


def count_tool_call(tool: str, outcome: str, seconds: float) -> None:
    """Count one tool call, by how it ended."""
    _tool_calls[tool, outcome].observe(seconds)


def count_decision(limiter: str, *, allowed: bool) -> None:
    """Count what a limiter decided: that of `requests`, of a `tool`, or of `wrong_credentials`."""
    _decisions[limiter, "allowed" if allowed else "refused"].inc()


def count_authentication(result: str) -> None:
    """Count a request by what its credential was, in a word of `RESULTS`."""
    _authentications[result,].inc()


def count_event(event: str, severity: str, number: int = 1) -> None:
    """Count one security event, or announce with 0 that there may be some."""
    _events[event, severity].inc(number)


def count_audit_lines(number: int, *, written: bool) -> None:
    """Count lines of the audit trail that were written, or lost. Without a trail there is no such metric."""
    _audit_lines()["written" if written else "lost",].inc(number)


@functools.cache
def _audit_lines() -> _Children:
    children = _Children(Counter("mcp_audit_lines", "Lines of the audit trail.", ["result"]))
    for result in ("written", "lost"):
        children[result,].inc(0)
    return children


def count_connections(change: int) -> None:
    """Count connections that were opened, or closed if negative."""
    _open_connections.inc(change)


def counted_stream(kind: str) -> AbstractContextManager[Any]:
    """Count an event stream as open while the block runs."""
    return _open_streams.labels(kind).track_inprogress()


class _LiveProcesses(MultiProcessCollector):
    """The sum over processes, without the open connections of one that was killed."""

    def __init__(self, registry: CollectorRegistry, directory: Path) -> None:
        self._directory = directory
        super().__init__(registry, str(directory))  # type: ignore[no-untyped-call]

    def collect(self) -> list[Metric]:
        for path in self._directory.glob("gauge_live*_*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not _is_alive(pid):
                mark_process_dead(pid, str(self._directory))  # type: ignore[no-untyped-call]
        return list(super().collect())  # type: ignore[no-untyped-call]


def registry() -> CollectorRegistry:
    """Return the registry of this process, or that of all processes that share PROMETHEUS_MULTIPROC_DIR."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return REGISTRY
    shared = CollectorRegistry()
    _LiveProcesses(shared, Path(directory))
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
def metrics_port(port: int | None, host: str) -> Iterator[None]:
    """Serve metrics on a port of their own while the block runs, if one is set. Of several processes, the parent does.

    Raises:
        SettingsError: if the port is taken.
    """
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, host, registry())
    except OSError as error:
        raise cannot_listen("METRICS_PORT", host, port, error) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
