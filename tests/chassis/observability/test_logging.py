"""One pipeline for every line: JSON or console, on standard error, and nothing can forge or leak."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest
import structlog

from mcp_chassis.events.logging import configure_logging
from mcp_chassis.events.untrusted import escape_controls
from mcp_chassis.http.current_request import RequestContext, current_request

SECRET = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"
Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Configure logging into a buffer."""

    def configured(log_format: Literal["auto", "json", "console"] = "json", level: str = "INFO") -> io.StringIO:
        stream = io.StringIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", stream)
            configure_logging(level, log_format=log_format, secrets=[SECRET, ""])
        return stream

    return configured


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def our_log() -> structlog.typing.FilteringBoundLogger:
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger("test")
    return log


def test_our_lines_and_those_of_libraries_look_alike(configure: Configure) -> None:
    stream = configure()
    our_log().info("hello", number=7)
    logging.getLogger("library").warning("hello %s", "there", extra={"number": 8})
    ours, theirs = lines(stream)
    assert (ours["event"], ours["number"], ours["logger"], ours["level"]) == ("hello", 7, "test", "info")
    assert (theirs["event"], theirs["number"], theirs["logger"], theirs["level"]) == (
        *("hello there", 8),
        *("library", "warning"),
    )
    assert ours["timestamp"].endswith("Z")


def test_lines_below_the_level_are_not_written(configure: Configure) -> None:
    stream = configure(level="WARNING")
    our_log().info("hello")
    logging.getLogger("library").info("hello")
    assert stream.getvalue() == ""


def test_a_logger_in_use_follows_a_change_of_form_and_of_standard_error(configure: Configure) -> None:
    log = our_log()
    first = configure("console")
    log.info("hello")
    second = configure("json")
    log.info("again")
    assert len(first.getvalue().splitlines()) == 1
    assert [line["event"] for line in lines(second)] == ["again"]


def test_our_lines_and_theirs_are_redacted_and_named_alike(configure: Configure) -> None:
    stream = configure()
    our_log().error("hello", token="hunter2")
    logging.getLogger("test").error("hello", extra={"token": "hunter2"})
    ours, theirs = lines(stream)
    assert ours | {"timestamp": ""} == theirs | {"timestamp": ""}


def test_the_request_id_is_in_every_line_of_the_request(configure: Configure) -> None:
    stream = configure()
    token = current_request.set(RequestContext("request-1", "192.0.2.1"))
    try:
        our_log().info("hello")
        logging.getLogger("library").warning("hello")
    finally:
        current_request.reset(token)
    our_log().info("hello")
    assert [line.get("request_id") for line in lines(stream)] == ["request-1", "request-1", None]


def test_what_a_tool_binds_is_in_its_lines(configure: Configure) -> None:
    stream = configure()
    with structlog.contextvars.bound_contextvars(order=7):
        our_log().info("hello")
        logging.getLogger("library").warning("hello")
        structlog.get_logger("audit").info("tool_call")
    assert [line.get("order") for line in lines(stream)] == [7, 7, None], "the line of a call holds what is declared"


def test_standard_output_stays_empty(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """On stdio it belongs to the protocol."""
    for log_format in ("json", "console", "auto"):
        configure(log_format)
        our_log().info("hello")
        logging.getLogger("uvicorn.error").error("hello")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_the_key_is_redacted_wherever_it_appears(configure: Configure, log_format: str) -> None:
    stream = configure(log_format)
    our_log().info(f"the key is {SECRET}", where=f"https://a.example/?key={SECRET}", nested={"a": [SECRET]})
    logging.getLogger("library").warning("the key is %s", SECRET)
    try:
        raise RuntimeError(SECRET)
    except RuntimeError:
        our_log().exception("failed")
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") >= 4


@pytest.mark.parametrize(
    "name", ["authorization", "Authorization", "api_key", "X-API-Key", "cookie", "password", "token"]
)
def test_credentials_are_redacted_by_name(configure: Configure, name: str) -> None:
    stream = configure()
    our_log().info("hello", **{name: "hunter2"})
    (line,) = lines(stream)
    assert line[name] == "[redacted]"


@pytest.mark.parametrize("evil", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\u2028b", "a\x85b", "a\x0bb", "a\u202eb", "a\x00b"])
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_input_can_forge_a_line(configure: Configure, log_format: str, evil: str) -> None:
    stream = configure(log_format)
    our_log().info(evil, value=evil, nested={"a": [evil]})
    logging.getLogger("library").warning("%s", evil)
    text = stream.getvalue()
    assert len(text.splitlines()) == 2
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "\x00" not in text


def test_what_the_sdk_logs_of_clients_has_its_own_words_only(configure: Configure) -> None:
    stream = configure()
    logging.getLogger("mcp.server").warning("%s refused on %-10r, %d%%", "SECRET", "SECRET", 5)
    (line,) = lines(stream)
    assert line["event"] == "… refused on …, …%%"
    logging.getLogger("mcp.server.request_state").warning("requestState rejected on %s: %s", "tools/call", "expired")
    assert len(lines(stream)) == 1, "that is a security event"


def test_a_traceback_in_the_console_cannot_be_mistaken_for_lines(configure: Configure) -> None:
    stream = configure("console")
    try:
        raise RuntimeError("first\n2026-01-01T00:00:00Z [info] forged\r\x1b[2J")
    except RuntimeError:
        our_log().exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert "failed" in first
    assert rest
    assert all(line.startswith("    | ") for line in rest)
    assert "\x1b" not in stream.getvalue()


def test_a_traceback_in_json_has_no_local_variables(configure: Configure) -> None:
    stream = configure()

    def fails(argument: str) -> None:
        raise RuntimeError("sorry")

    try:
        fails("hunter2")
    except RuntimeError:
        our_log().exception("failed")
    (line,) = lines(stream)
    assert line["exception"][0]["exc_type"] == "RuntimeError"
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë Müller 你好", "Zoë Müller 你好"),
        ("a\nb", "a\\nb"),
        ("\x1b[0m", "\\x1b[0m"),
        ("\u2028", "\\u2028"),
        ("\u200b", "\\u200b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_is_printable_stays_and_the_rest_is_escaped(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


class Broken(io.StringIO):
    """A stream whose disk is full for a while."""

    error: Exception | None = None

    def write(self, text: str) -> int:
        """Write, or fail."""
        if self.error is not None:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("I/O operation on closed file")])
def test_lines_that_cannot_be_written_are_counted_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    stream = Broken()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        configure_logging("INFO", log_format="json")
        stream.error = error
        for _ in range(3):
            our_log().info("lost")
            logging.getLogger("library").warning("lost")
        assert stream.getvalue() == ""
        stream.error = None
        our_log().info("found")
        our_log().info("found again")
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in written] == ["found", "log lines were lost", "found again"]
    assert written[1]["lines"] == 6


def test_without_standard_error_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", None)
        configure_logging("INFO")
        our_log().info("lost")
        logging.getLogger("library").warning("lost")


def test_a_record_that_cannot_be_formatted_does_not_fail_either(configure: Configure) -> None:
    stream = configure()
    logging.getLogger("library").warning("%d", "not a number")
    assert "TypeError" in stream.getvalue()


class Unprintable:
    """A value that has no text."""

    def __str__(self) -> str:
        raise ArithmeticError("hunter2")

    __repr__ = __str__


CIRCULAR: dict[str, Any] = {}
CIRCULAR["itself"] = CIRCULAR
UNPRINTABLE: Any = Unprintable()


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "log",
    [
        lambda: our_log().info("hello", value=UNPRINTABLE),
        lambda: our_log().info("%s and %s", "one"),
        lambda: our_log().info("%s", UNPRINTABLE),
        lambda: our_log().log(logging.ERROR, "%d", "hunter2"),
        lambda: our_log().exception("%d", "hunter2"),
        lambda: our_log().warn("%d", "hunter2"),
        lambda: asyncio.run(our_log().ainfo("hello", value=UNPRINTABLE)),
        lambda: logging.getLogger("library").warning("hello", extra={"value": UNPRINTABLE}),
        lambda: logging.getLogger("mcp.server").warning(UNPRINTABLE),
        lambda: logging.getLogger("asyncio").warning(UNPRINTABLE),
        lambda: logging.getLogger().handle(
            logging.makeLogRecord({"name": None, "msg": "hello", "levelno": logging.ERROR})
        ),
    ],
)
def test_a_line_that_cannot_be_made_does_not_fail_the_caller(
    configure: Configure, log_format: str, log: Callable[[], None]
) -> None:
    stream = configure(log_format, "DEBUG")
    log()
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines() if line.startswith("{")]
    assert line["event"] == "a log line could not be made"
    assert line["cause"] in {"ArithmeticError", "TypeError", "AttributeError"}
    assert "hunter2" not in stream.getvalue()


def test_a_circular_value_does_not_fail_the_caller(configure: Configure) -> None:
    stream = configure()
    our_log().info("hello", value=CIRCULAR)
    assert lines(stream) == [{"event": "a log line could not be made", "cause": "ValueError"}]


def test_a_logger_without_a_name_and_all_methods_of_a_logger_write(configure: Configure) -> None:
    stream = configure()
    log = structlog.get_logger()
    log.info("hello %s", "there")
    log.warn("hello %(whom)s", {"whom": "there"})
    log.log(logging.ERROR, "hello %s", "there")
    asyncio.run(log.acritical("hello %s", "there"))
    log.debug("hello %s")
    log.log(logging.DEBUG, "hello")
    written = [(line["event"], line["logger"], line["level"]) for line in lines(stream)]
    assert written == [("hello there", "", level) for level in ("info", "warning", "error", "critical")]


def test_the_lines_of_a_tool_can_be_captured(configure: Configure) -> None:
    stream = configure()
    with structlog.testing.capture_logs() as captured:
        our_log().info("hello", number=7)
    assert captured == [{"event": "hello", "number": 7, "log_level": "info"}]
    assert stream.getvalue() == ""


@pytest.mark.parametrize("name", ["mcp.server", "asyncio"])
def test_no_extra_of_the_sdk_repeats_a_value(configure: Configure, name: str) -> None:
    stream = configure()
    logging.getLogger(name).warning("refused", extra={"body": "hunter2"})
    assert lines(stream)[0].keys() == {"event", "logger", "level", "timestamp"}


@pytest.mark.parametrize("name", ["mcp.server", "asyncio", "library"])
def test_what_another_handler_has_made_of_a_record_is_not_written(configure: Configure, name: str) -> None:
    stream = configure()
    record = logging.LogRecord(name, logging.WARNING, "", 1, "refused %s", ("hunter2",), None)
    logging.Formatter("%(asctime)s %(message)s").format(record)
    logging.getLogger(name).handle(record)
    (line,) = lines(stream)
    assert line.keys() == {"event", "logger", "level", "timestamp"}
    assert line["event"] == ("refused hunter2" if name == "library" else "refused …")
