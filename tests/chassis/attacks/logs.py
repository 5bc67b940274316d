"""Listens to the server's own loggers, for tests of what is written and what is not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.typing import EventDict

from mcp_chassis.http.current_request import current_request


@contextmanager
def log_lines(name: str) -> Iterator[list[dict[str, Any]]]:
    """Collect the lines of one logger (`access`, `audit`, `security`, `error`) in this process."""
    lines: list[dict[str, Any]] = []

    def collect(logger: Any, _: str, event: EventDict) -> EventDict:
        if logger.name == name:
            request = current_request.get()
            of_request = {"request_id": request.request_id} if request is not None else {}
            lines.append(structlog.contextvars.get_contextvars() | of_request | dict(event))
        return event

    # This very list: loggers in use keep it.
    processors = structlog.get_config()["processors"]
    processors.insert(0, collect)
    try:
        yield lines
    finally:
        processors.remove(collect)
