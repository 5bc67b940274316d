"""One pipeline for every log line: ours, uvicorn's and the SDK's, as JSON or for a terminal, on standard error.

Standard output is never used: on stdio it is the protocol. No input can forge a line: JSON escapes by itself, the
terminal form shows control characters as escapes. Credentials are redacted by name and, in the whole line, as
`untrusted.redact` knows them. Texts of exceptions are left out, and so are the details of what the SDK and asyncio log:
they may hold values of arguments.
"""

import functools
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TextIO

import pydantic_core
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ..http.current_request import current_request
from .console import console_line
from .ecs import to_ecs
from .untrusted import REDACTED, add_secrets, escape_controls, redact

_OF_EVERY_CALL = frozenset({"access", "audit"})
_SECRET_NAMES = frozenset(
    {"authorization", "api_key", "x-api-key", "cookie", "set-cookie", "password", "secret", "token", "access_token"}
)
_CONVERSIONS = re.compile(r"%[-+ #0]*[0-9.]*[a-zA-Z]")  # of values in a message
_OF_EVERY_RECORD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"})
_LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
_REPEATING_VALUES = frozenset({"mcp", "asyncio"})
"""Loggers of libraries whose messages and extras repeat what clients send, or what tools raise."""


def configure_logging(
    level: str, *, log_format: Literal["auto", "json", "console", "ecs"] = "auto", secrets: Iterable[str] = ()
) -> None:
    """Send every logger through one handler.

    Call it before `MCPServer` is made: the SDK configures the root logger if it is not configured.

    Args:
        level: a standard level name. Of libraries, lines below INFO are never written: some hold whole messages.
        log_format: `auto` is `console` on a terminal and `json` elsewhere; `ecs` is JSON with other names.
        secrets: values that must never be written, whatever line they are in.
    """
    add_secrets(secrets)
    output.stream = sys.stderr
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    console = log_format == "console" or (log_format == "auto" and is_terminal)
    render = structlog.processors.ExceptionRenderer(_indented_traceback if console else _exceptions_without_texts)
    output.one_line_a_call = level != "DEBUG"
    colors = is_terminal and not os.environ.get("NO_COLOR")
    last: list[Processor] = [to_ecs, _to_json] if log_format == "ecs" else [_to_json]
    if console and output.one_line_a_call:
        last = [functools.partial(console_line, colors=colors)]
    elif console:
        last = [_escape_message, structlog.dev.ConsoleRenderer(colors=colors, repr_native_str=True)]

    def exceptions(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return render(logger, method, event) if "exc_info" in event else event

    # Our own loggers write straight to standard error: through the standard library a line costs twice as much.
    _processors[:] = [_add_bound, _add_origin, _redact_names, exceptions, *last]
    structlog.configure(
        processors=_processors,
        wrapper_class=_logger_class(level),
        logger_factory=_Writer,
        cache_logger_on_first_use=True,
    )
    lowest = logging.getLevelNamesMapping()[level]
    logging.basicConfig(handlers=[_Handler()], level=max(logging.INFO, lowest), force=True)
    for name in ("httpx2", "httpcore2", "mcp"):  # they narrate every request and every session; warnings stay
        logging.getLogger(name).setLevel(max(logging.WARNING, lowest))
    logging.getLogger("mcp.server.request_state").setLevel("ERROR")  # a refused state is a security event
    logging.getLogger("uvicorn.access").propagate = False  # our access line replaces it


def log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    """As `threading.excepthook`: Python's own would write the text of the exception straight to standard error."""
    if crash.exc_type is not SystemExit:
        structlog.get_logger("mcp_chassis").error("a thread crashed", exc_info=crash.exc_value)


class _Output:
    """Writes lines to standard error, and never fails: a full disk must not turn a refusal into a 500."""

    def __init__(self) -> None:
        self.stream: TextIO | None = sys.stderr
        self.one_line_a_call = False  # the line of a call then stands for its request, too
        self._lost = 0

    def write(self, line: str) -> None:
        """Write a line, in one call, so that lines of two threads do not mix. Lines that are lost are counted."""
        line = redact(line)
        if self._lost:
            notice = {"event": "log lines were lost", "lines": self._lost, "logger": "log", "level": "error"}
            line = f"{line}\n{json.dumps(notice)}"
        try:
            self.stream.write(f"{line}\n")  # type: ignore[union-attr]  # None if it was closed from the start
            self.stream.flush()  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            self._lost += 1
        else:
            self._lost = 0


# Loggers are made once and kept. They follow `configure_logging`, which may be called again, through these two.
output = _Output()
_processors: list[Processor] = []


class _Writer(NamedTuple):
    """The name of a logger of ours."""

    name: str = ""


class _Handler(logging.Handler):
    """Writes what uvicorn and the SDK log."""

    def emit(self, record: logging.LogRecord) -> None:
        def make() -> EventDict:
            event: Any = {name: value for name in ("exc_info", "stack_info") if (value := getattr(record, name))}
            if record.name.partition(".")[0] in _REPEATING_VALUES:
                return {"event": _CONVERSIONS.sub("…", str(record.msg).partition("\n")[0]), **event}
            extras = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
            return {"event": record.getMessage(), **extras, **event}

        _write(record, str(record.levelname).lower(), make)


def _write(logger: WrappedLogger, method: str, make: Callable[[], EventDict]) -> None:
    """Write an event. Nothing raises, whatever was logged: a log line must not fail the call of a tool."""
    try:
        line: Any = make()
        for process in _processors:
            line = process(logger, method, line)
    except structlog.DropEvent:
        return
    except Exception as error:
        line = json.dumps({"event": "a log line could not be made", "cause": type(error).__name__})
    output.write(line)


def _logger_class(level: str) -> Any:
    """Return structlog's class of loggers with methods of our own, which never raise."""

    def method(name: str) -> Callable[..., None]:
        def log(self: Any, event: Any = None, *args: Any, **values: Any) -> None:
            def make() -> EventDict:
                text = logging.LogRecord("", 0, "", 0, event, args, None).getMessage() if args else event
                return {**self._context, **values, "event": text}

            _write(self._logger, name, make)

        return log

    made: Any = structlog.make_filtering_bound_logger(level)
    names = {name: getattr(one, "__name__", "") for name, one in vars(made).items()}  # below the level: `_nop`
    methods: dict[str, Any] = {name: method(own) for name, own in names.items() if own in _LEVELS.values()}
    methods["_proxy_to_logger"] = lambda self, name, /, *text, **values: getattr(self, name)(*text, **values)
    methods["log"] = lambda self, level, /, *text, **values: getattr(self, _LEVELS.get(level, "error"))(*text, **values)
    return type("_Logger", (made,), methods)


def _add_bound(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add what the code of a tool has bound with structlog, except to the two lines of every call."""
    is_of_call = isinstance(logger, _Writer) and logger.name in _OF_EVERY_CALL
    return event if is_of_call else structlog.contextvars.merge_contextvars(logger, method, event)


def _add_origin(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add request, logger, level and time. structlog has a processor for each, which together cost twice as much."""
    request = current_request.get()
    if request is not None:
        event.setdefault("request_id", request.request_id)
    event["logger"] = logger.name
    event["level"] = "error" if method == "exception" else method
    seconds, fraction = divmod(time.time(), 1)
    event["timestamp"] = f"{_clock(int(seconds))}.{int(fraction * 1_000_000):06}Z"
    return event


@functools.lru_cache(1)
def _clock(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def _redact_names(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if _SECRET_NAMES.isdisjoint(map(str.lower, event)):
        return event
    return {name: REDACTED if name.lower() in _SECRET_NAMES else value for name, value in event.items()}


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Return the event as ASCII: beyond it are separators that some readers of a log take for a new line."""
    try:
        return pydantic_core.to_json(event, fallback=repr).decode("ascii")  # a fifth of what `json.dumps` costs
    except ValueError:  # not ASCII, or half of a surrogate pair
        return json.dumps(event, default=repr, separators=(",", ":"))


def _escape_message(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["event"] = escape_controls(str(event.get("event", "")))
    return event


# Locals would put tool arguments into the log.
_tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def _exceptions_without_texts(exc_info: Any) -> list[dict[str, Any]]:
    """Return types and places. Of the texts, only the system's own for an error number is kept."""
    stacks = _tracebacks(exc_info)
    error = exc_info[1]
    _leave_out_texts(stacks)
    if isinstance(error, OSError) and error.errno is not None:
        stacks[0]["exc_value"] = os.strerror(error.errno)
    return stacks


def _leave_out_texts(stacks: list[dict[str, Any]]) -> None:
    for stack in stacks:
        for name in ("exc_value", "exc_notes", "syntax_error"):
            stack.pop(name, None)
        for group in stack.get("exceptions", ()):
            _leave_out_texts(group)


def _indented_traceback(exc_info: Any) -> str:
    """Return a traceback whose lines cannot be mistaken for log lines."""
    lines = []
    for stack in _exceptions_without_texts(exc_info):
        lines += [f"{frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in stack["frames"]]
        lines.append(f"{stack['exc_type']} {stack.get('exc_value', '')}".rstrip())
    return "\n".join(f"    | {escape_controls(line)}" for line in lines)
