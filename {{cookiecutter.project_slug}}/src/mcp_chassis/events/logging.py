"""One pipeline for every log line: ours, uvicorn's and the SDK's, as JSON or for a terminal, on standard error.

Standard output is never used: on stdio it is the protocol. No input can forge a line: JSON escapes by itself, the
terminal form shows control characters as escapes. Credentials are blotted out by name, by the value of the configured
key, and by the look of other keys and tokens, wherever they turn up.
"""

import functools
import json
import logging
import logging.config
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Literal, TextIO

import pydantic_core
import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

_SECRET_NAMES = frozenset(
    {"authorization", "api_key", "x-api-key", "cookie", "set-cookie", "password", "secret", "token", "access_token"}
)
BLOT = "[redacted]"
# API keys of the keys file and JWTs: nobody knows their values here, but they look like nothing else. A JWT without its
# dots matches too: to look for the dot from every `eyJ` on would take quadratic time.
_TOKENS = re.compile(r"mcp_[0-9a-z]{10}_[0-9A-Za-z]{20,}|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}")


def configure_logging(
    level: str, *, log_format: Literal["auto", "json", "console"] = "auto", secrets: Iterable[str] = ()
) -> None:
    """Send every logger through one handler.

    Call it before `MCPServer` is made: the SDK configures the root logger if nobody has.

    Args:
        level: a standard level name.
        log_format: `auto` is `console` on a terminal and `json` elsewhere.
        secrets: values that must never be written, whatever line they turn up in.
    """
    console = log_format == "console" or (log_format == "auto" and _is_terminal())
    context = structlog.contextvars.merge_contextvars
    render = [_redact_names, *(_console() if console else _json()), _redact_values(secrets)]
    _configure_ours(level, [context, _say_who_and_when, *render])
    _configure_others(
        level, [context, structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level, _add_time], render
    )


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
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                # Our access line replaces uvicorn's; a client library's line for every request is not ours to print.
                "uvicorn.access": {"handlers": [], "propagate": False},
                "httpx2": {"level": "WARNING"},
                "httpcore2": {"level": "WARNING"},
                # The SDK narrates every session; what it warns of stays.
                "mcp": {"level": "WARNING" if level != "DEBUG" else "DEBUG"},
            },
        }
    )


def _json() -> list[Processor]:
    # Locals would put tool arguments into the log.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer(_dumps)]


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
        structlog.dev.ConsoleRenderer(
            colors=_is_terminal(), repr_native_str=True, exception_formatter=_indented_traceback
        ),
    ]


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _indented_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """Print a traceback whose lines cannot be mistaken for log lines, whatever the exception's text holds."""
    text = "".join(traceback.format_exception(*exc_info))
    stream.write("".join(f"\n    | {escape_controls(line)}" for line in text.splitlines()))


def escape_controls(text: str) -> str:
    """Show control, format and line-separator characters as escapes, so that text stays on its line."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


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
                event[name] = BLOT
    return event


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return what takes `secrets`, and whatever looks like a key or a token, out of a text."""
    known = [secret for secret in secrets if secret]

    def redact(line: str) -> str:
        for secret in known:
            if secret in line:
                line = line.replace(secret, BLOT)
        return blot_tokens(line)

    return redact


def _redact_values(secrets: Iterable[str]) -> Processor:
    redact = redactor(secrets)
    return lambda _, __, line: redact(line)  # type: ignore[arg-type]  # the renderer has made text of it


def blot_tokens(text: str) -> str:
    """Return `text` without what looks like a key or a token."""
    return _TOKENS.sub(BLOT, text) if "mcp_" in text or "eyJ" in text else text
