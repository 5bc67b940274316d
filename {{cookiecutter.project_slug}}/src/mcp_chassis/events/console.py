"""Aligned log lines for people, of at most 110 columns for a call. `LOG_LEVEL=DEBUG` shows all fields instead."""

import json
from collections.abc import Mapping
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from .untrusted import escape_controls

_CALLS = {"tool_call": "tool", "resource_read": "resource", "prompt_get": "prompt"}
_LEVELS = {"warning": "WARN", "critical": "CRIT"}
_COLORS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_WIDTHS = (8, 28, 10, 24)  # columns: the kind, the name, how it ended, the caller
_ID = 8  # characters of the id of the request


def facts(values: Mapping[str, Any]) -> str:
    """Return names and values, those that are no single word as JSON."""
    return " ".join(
        f"{name}={value}"
        if isinstance(value, str) and value and " " not in value
        else f"{name}={json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in values.items()
    )


def console_line(_: WrappedLogger, __: str, event: EventDict, *, colors: bool) -> str:
    """Return the line, with the traceback below it if there is one. The last processor of structlog."""
    level, traceback = event.pop("level", "info"), event.pop("exception", "")
    # Nothing in a line can end, colour or forge it; a traceback comes with its lines indented.
    time = str(event.pop("timestamp", ""))[11:19]
    line = escape_controls(f"{time} {_LEVELS.get(level, level.upper()):5} {_text(event)}")
    if colors and level in _COLORS:
        line = f"{_COLORS[level]}{line}\x1b[0m"
    return f"{line.rstrip()}\n{traceback}" if traceback else line.rstrip()


def _text(event: EventDict) -> str:
    what, request, logger = str(event.pop("event", "")), str(event.pop("request_id", "")), event.pop("logger", "")
    if logger == "audit" and what in _CALLS:
        kind = _CALLS[what]
        words = (kind, event[kind], event["outcome"], event["principal"])
        return _columns(*words, request=request, duration=event["duration_ms"])
    if logger == "access":
        status = str(event["status"]) + (f" x{event['count']}" if "count" in event else "")
        caller = event["principal"] or event["client"]
        return _columns(event["method"], event["path"], status, caller, request=request, duration=event["duration_ms"])
    if logger == "security" and what == "security_event":
        details = {name: value for name, value in event["details"].items() if name not in {"request_id", "client"}}
        line = _columns("event", event["kind"], event["severity"], event["identifier"], request=request)
        return f"{line} {facts(details)}"
    if request:
        event["request"] = request[:_ID]
    return f"{what}  {facts(event)}"


def _columns(*words: str, request: str, duration: float | None = None) -> str:
    took = "" if duration is None else f"{duration:.1f} ms"
    kind, name, outcome, caller = map(_cut, words, _WIDTHS)
    return f"{kind} {name} {outcome} {took:>11} {caller} {request[:_ID]}"


def _cut(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}~"
