"""Counting what happens. The package `telemetry` does it for Prometheus; without it nothing is counted."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .rooms import imported

OTHER = "(other)"
"""The label of every route and every tool that does not exist."""


def _nothing(*_: object, **__: object) -> Any:
    return nullcontext()


_metrics = imported("telemetry.metrics")
count_http_request: Callable[[str, int, float], None] = getattr(_metrics, "count_http_request", _nothing)
count_tool_call: Callable[[str, str, float], None] = getattr(_metrics, "count_tool_call", _nothing)
count_decision: Callable[..., None] = getattr(_metrics, "count_decision", _nothing)
count_authentication: Callable[[str], None] = getattr(_metrics, "count_authentication", _nothing)
count_event: Callable[..., None] = getattr(_metrics, "count_event", _nothing)
count_audit_lines: Callable[..., None] = getattr(_metrics, "count_audit_lines", _nothing)
count_connections: Callable[[int], None] = getattr(_metrics, "count_connections", _nothing)
counted_stream: Callable[[str], AbstractContextManager[Any]] = getattr(_metrics, "counted_stream", _nothing)
