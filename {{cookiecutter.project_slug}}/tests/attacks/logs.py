"""Listens to the server's own loggers, for tests of what is written and what is not."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Collector(logging.Handler):
    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what structlog put into the record."""
        self._lines.append(dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()})


@contextmanager
def log_lines(name: str) -> Iterator[list[dict[str, Any]]]:
    """Collect the lines of one logger (`access`, `audit`, `security`, `error`) in this process."""
    lines: list[dict[str, Any]] = []
    handler = _Collector(lines)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
