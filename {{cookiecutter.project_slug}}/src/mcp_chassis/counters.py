"""Counting what happens. The package `telemetry` does it for Prometheus; without it nothing is counted."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .rooms import imported

OTHER = "(other)"
"""The label of every route and every tool that does not exist."""
_NOTHING = nullcontext()


def _counter(name: str) -> Callable[..., Any]:
    """Return the function of `telemetry.metrics`, which describes it, or one that does nothing."""
    return getattr(imported("telemetry.metrics"), name, lambda *_, **__: _NOTHING)


count_http_request: Callable[[str, int, float], None] = _counter("count_http_request")
count_tool_call: Callable[[str, str, float], None] = _counter("count_tool_call")
count_decision = _counter("count_decision")
count_authentication: Callable[[str], None] = _counter("count_authentication")
count_event = _counter("count_event")
count_audit_lines = _counter("count_audit_lines")
count_connections: Callable[[int], None] = _counter("count_connections")
counted_stream: Callable[[str], AbstractContextManager[Any]] = _counter("counted_stream")
