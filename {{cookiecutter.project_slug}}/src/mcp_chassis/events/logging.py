"""One pipeline for every log line: ours, uvicorn's and the SDK's, as JSON or for a terminal, on standard error.

Standard output is never used: on stdio it is the protocol. No input can forge a line: JSON escapes by itself, the
terminal form shows control characters as escapes. Credentials are redacted by name and, in the whole line, as
`untrusted.redact` knows them. Texts of exceptions are left out, and so are the details of what the SDK and asyncio log:
they may hold values of arguments.
"""

import functools
import json
import logging
import logging.config
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, TextIO

import pydantic_core
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from .untrusted import REDACTED, add_secrets, escape_controls, redact

_SECRET_NAMES = frozenset(
    {"authorization", "api_key", "x-api-key", "cookie", "set-cookie", "password", "secret", "token", "access_token"}
)
_PACKAGE = __name__.partition(".")[0]
_OF_CALLS = frozenset({"mcp", "asyncio"})
"""Loggers of libraries whose messages repeat what clients send, or what tools raise."""


def configure_logging(
    level: str, *, log_format: Literal["auto", "json", "console"] = "auto", secrets: Iterable[str] = ()
) -> None:
    """Send every logger through one handler.

    Call it before `MCPServer` is made: the SDK configures the root logger if nobody has.

    Args:
        level: a standard level name. Of libraries, lines below INFO are never written: some hold whole messages.
        log_format: `auto` is `console` on a terminal and `json` elsewhere.
        secrets: values that must never be written, whatever line they turn up in.
    """
    add_secrets(secrets)
    console = log_format == "console" or (log_format == "auto" and _is_terminal())
    context = structlog.contextvars.merge_contextvars
    render = [_redact_names, *(_console() if console else _json()), _redact_line]
    _configure_ours(level, [context, _say_who_and_when, *render])
    _configure_others(
        level, [context, structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level, _add_time], render
    )


def log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    """As `threading.excepthook`: Python's own would write the text of the exception straight to standard error."""
    if crash.exc_type is not SystemExit:
        logging.getLogger(_PACKAGE).error("a thread crashed", exc_info=crash.exc_value)


class _Output:
    """Writes lines to standard error, and never fails: a full disk must not turn a refusal into a 500."""

    def __init__(self) -> None:
        self.stream: TextIO | None = sys.stderr
        self._lost = 0

    def write(self, line: str) -> None:
        """Write a line, in one call, so that lines of two threads do not mix. What cannot be written is counted."""
        if self._lost:
            line = f"{line}\n{self._confession(self._lost)}"
        try:
            self.stream.write(f"{line}\n")  # type: ignore[union-attr]  # None if it was closed from the start
            self.stream.flush()  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            self._lost += 1
        else:
            self._lost = 0

    @staticmethod
    def _confession(lost: int) -> str:
        return json.dumps({"event": "log lines were lost", "lines": lost, "logger": "log", "level": "error"})


_output = _Output()


class _NamedWriter:
    """Writes lines, and has the name that `add_logger_name` asks for.

    Loggers are made once and kept. They follow `configure_logging`, which may be called again.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def _write(self, line: str) -> None:
        _output.write(line)

    debug = info = warning = error = critical = _write


class _Handler(logging.Handler):
    """The way of what uvicorn and the SDK log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if record.name.partition(".")[0] in _OF_CALLS:
            record.msg, record.args = str(record.msg).partition("\n")[0], ()
        try:
            line = self.format(record)
        except Exception as error:  # whatever a library has logged
            line = json.dumps({"event": "a log line could not be made", "cause": type(error).__name__})
        _output.write(line)


# One list for ever, for the same reason.
_our_processors: list[Processor] = []


def _configure_ours(level: str, processors: list[Processor]) -> None:
    """Our own loggers write straight to standard error: through the standard library a line costs twice as much."""
    _our_processors[:] = processors
    _output.stream = sys.stderr
    structlog.configure(
        processors=_our_processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_NamedWriter,
        cache_logger_on_first_use=True,
    )


def _configure_others(level: str, prepare: list[Processor], render: list[Processor]) -> None:
    """What uvicorn and the SDK log goes the same way, in the same form."""
    foreign: list[Processor] = [structlog.stdlib.ExtraAdder(), _drop_color, *prepare]
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "all": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": foreign,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
                }
            },
            "handlers": {"stderr": {"()": _Handler, "formatter": "all"}},
            "root": {"handlers": ["stderr"], "level": _at_least("INFO", level)},
            "loggers": {
                _PACKAGE: {"level": level},
                # Our access line replaces uvicorn's; a client library's line for every request is not ours to print.
                "uvicorn.access": {"handlers": [], "propagate": False},
                # The SDK narrates every session; what it warns of stays.
                **{name: {"level": _at_least("WARNING", level)} for name in ("httpx2", "httpcore2", "mcp")},
            },
        }
    )


def _at_least(lowest: str, level: str) -> str:
    return max(lowest, level, key=logging.getLevelNamesMapping().__getitem__)


# Locals would put tool arguments into the log.
_tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def _json() -> list[Processor]:
    return [
        structlog.processors.ExceptionRenderer(_exceptions_without_texts),
        structlog.processors.JSONRenderer(_dumps),
    ]


def _exceptions_without_texts(exc_info: Any) -> list[dict[str, Any]]:
    """Return types and places. Only the system's own words for an error number are kept of what exceptions say."""
    stacks = _tracebacks(exc_info)
    error = exc_info[1]
    for stack in stacks:
        _leave_out_texts(stack)
    if isinstance(error, OSError) and error.errno is not None:
        stacks[0]["exc_value"] = os.strerror(error.errno)
    return stacks


def _leave_out_texts(stack: dict[str, Any]) -> None:
    for name in ("exc_value", "exc_notes", "syntax_error"):
        stack.pop(name, None)
    for group in stack.get("exceptions", ()):
        for inner in group:
            _leave_out_texts(inner)


def _dumps(event: EventDict, default: Callable[[Any], Any]) -> str:
    """Return the event as ASCII: what lies beyond holds separators that some readers of a log take for a new line."""
    try:
        line = pydantic_core.to_json(event, fallback=default)  # a fifth of what `json.dumps` costs
        return line.decode("ascii")
    except ValueError:  # not ASCII, or half of a surrogate pair
        return json.dumps(event, default=default, separators=(",", ":"))


def _console() -> list[Processor]:
    return [
        _escape_message,
        structlog.processors.ExceptionRenderer(_indented_traceback),
        structlog.dev.ConsoleRenderer(colors=_is_terminal(), repr_native_str=True),
    ]


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _indented_traceback(exc_info: Any) -> str:
    """Return a traceback whose lines cannot be mistaken for log lines."""
    lines = []
    for stack in _exceptions_without_texts(exc_info):
        lines += [f"{frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in stack["frames"]]
        lines.append(f"{stack['exc_type']} {stack.get('exc_value', '')}".rstrip())
    return "\n".join(f"    | {escape_controls(line)}" for line in lines)


def _escape_message(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["event"] = escape_controls(str(event.get("event", "")))
    return event


def _say_who_and_when(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """For our own loggers, all in one: two lines of every call pass here."""
    event["logger"] = logger.name
    event["level"] = method
    return _add_time(logger, method, event)


def _add_time(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
    event["timestamp"] = f"{_second(seconds)}.{micros:06d}Z"
    return event


@functools.lru_cache(1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _drop_color(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # uvicorn's second copy of its message
    return event


def _redact_names(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if not _SECRET_NAMES.isdisjoint(map(str.lower, event)):
        for name in event:
            if name.lower() in _SECRET_NAMES:
                event[name] = REDACTED
    return event


def _redact_line(_: WrappedLogger, __: str, line: Any) -> str:
    return redact(line)  # the renderer has made text of it
