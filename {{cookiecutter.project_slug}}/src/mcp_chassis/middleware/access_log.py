"""The access log: one line a request, which the audit trail gets as well."""

from typing import Any

import structlog

from ..calls.record import Recorder
from ..events.logging import one_line_a_call
from ..events.sampling import Sampler
from ..http.current_request import RequestContext

log = structlog.get_logger("access")


class AccessLog:
    """Writes a line for each request. Those without a caller or with an error are sampled.

    Args:
        recorder: of the audit trail; gets every line.
        enabled: whether lines are written to the log.
    """

    def __init__(self, recorder: Recorder | None = None, *, enabled: bool = True) -> None:
        self._recorder = recorder or Recorder()
        self._enabled = enabled
        self._sampler: Sampler[tuple[RequestContext, dict[str, Any]]] = Sampler(self._write)

    def add(self, request: RequestContext, line: dict[str, Any]) -> None:
        """Add the line of a request that has ended."""
        is_served = line["principal"] is not None and 0 < line["status"] < 400
        if request.calls or is_served:
            self._write((request, line), 1)  # as many as the rate limit lets pass
        else:
            self._sampler.take(line["principal"] or request.client, (line["status"],), (request, line))

    def flush(self) -> None:
        """Write the lines that stand for many."""
        self._sampler.flush()

    def _write(self, item: tuple[RequestContext, dict[str, Any]], count: int) -> None:
        request, line = item
        if count > 1:
            line["count"] = count
        self._recorder.request(request, line)
        if self._enabled and not (request.audited and one_line_a_call()):
            log.info("request", **line)
