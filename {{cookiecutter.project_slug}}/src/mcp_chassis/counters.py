"""Counting what happens. The package `telemetry` does it for Prometheus; without it nothing is counted."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from .rooms import imported

OTHER = "(other)"
"""The label of every route and every tool that does not exist."""


class Counters:
    """Counts nothing. The module `telemetry.metrics` has functions of the same names and arguments."""

    def count_http_request(self, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request. `status` is 0 if the client disconnected first."""

    def count_tool_call(self, tool: str, outcome: str, seconds: float) -> None:
        """Count one tool call."""

    def count_decision(self, limiter: str, *, allowed: bool) -> None:
        """Count what a limiter decided."""

    def count_authentication(self, result: str) -> None:
        """Count a request by what its credential was."""

    def count_event(self, event: str, severity: str, number: int = 1) -> None:
        """Count one security event, or announce with 0 that there may be some."""

    def count_audit_lines(self, number: int, *, written: bool) -> None:
        """Count lines of the audit trail that were written, or lost."""

    def count_connections(self, change: int) -> None:
        """Count connections that were opened, or closed if negative."""

    def counted_stream(self, kind: str) -> AbstractContextManager[Any]:
        """Count an event stream as open while the block runs."""
        return nullcontext()


_counters = cast(Counters, imported("telemetry.metrics") or Counters())

count_http_request = _counters.count_http_request
count_tool_call = _counters.count_tool_call
count_decision = _counters.count_decision
count_authentication = _counters.count_authentication
count_event = _counters.count_event
count_audit_lines = _counters.count_audit_lines
count_connections = _counters.count_connections
counted_stream = _counters.counted_stream
