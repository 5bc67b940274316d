"""One classifier for whatever a tool, a resource or a prompt ends with."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from mcp import MCPError
from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedResourceError,
    UnexpectedToolError,
)
from pydantic import BaseModel, TypeAdapter, ValidationError, validate_call
from structlog.testing import capture_logs

from mcp_chassis.calls.arguments import SchemaViolation
from mcp_chassis.calls.outcome import classify
from mcp_chassis.calls.output import ResultTooLarge
from mcp_chassis.events.log import EventLog
from mcp_chassis.sinks import ConfigurationError, InvalidInput, UpstreamError, sanitize_input

pytestmark = pytest.mark.anyio

SECRET = "hunter2"


def caused(error: Exception, *causes: Exception) -> Exception:
    """Return an error with the causes of it, outermost first."""
    outer = error
    for cause in causes:
        outer.__cause__ = cause
        outer = cause
    return error


def invalid(function: Callable[..., Any], *arguments: Any) -> Exception:
    """Return the error with which a function refuses its arguments."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        function(*arguments)
    return error.value


@validate_call
def declared(name: str) -> str:
    """Be a prompt, whose arguments the SDK validates while it calls it."""
    return name


class Config(BaseModel):
    """Data of the function itself."""

    key: int


REFUSED = invalid(sanitize_input, "$(rm)")
WRONG_ARGUMENT = invalid(TypeAdapter(int).validate_python, "a")
WRONG_PROMPT = invalid(declared, 7)
OWN_DATA = invalid(Config.model_validate, {"key": SECRET})

DOWN = UpstreamError("the service is down", cause="stock.internal: ConnectError (Connection refused)")
MISUSED = ConfigurationError("a header cannot be sent")

OF_TOOLS: list[tuple[Exception, str, str]] = [
    (WRONG_ARGUMENT, "rejected", "schema"),
    (SchemaViolation("not valid Unicode"), "rejected", "schema"),
    (caused(UnexpectedToolError("a"), REFUSED), "rejected", "check_name"),
    (caused(UnexpectedToolError("a"), OWN_DATA), "crashed", "crashed"),
    (caused(UnexpectedToolError("a"), RuntimeError(SECRET)), "crashed", "crashed"),
    (caused(UnexpectedToolError("a"), RuntimeError(SECRET), InvalidInput("b")), "crashed", "crashed"),
    (caused(ToolError("no such note"), ToolError("no such note")), "failed", "failed"),
    (caused(ToolError("no"), ToolError("no"), InvalidInput("b")), "failed", "failed"),
    (caused(ToolError("no"), ResourceError("no")), "failed", "failed"),
    (caused(UnexpectedToolError("a"), DOWN), "upstream_failed", "upstream_failed"),
    (
        caused(UnexpectedToolError("a"), caused(UpstreamError("b"), OSError(SECRET))),
        "upstream_failed",
        "upstream_failed",
    ),
    (caused(ToolError("try later"), ToolError("try later"), DOWN), "upstream_failed", "upstream_failed"),
    (
        caused(UnexpectedToolError("a"), ExceptionGroup("b", [DOWN, ExceptionGroup("c", [DOWN])])),
        "upstream_failed",
        "upstream_failed",
    ),
    (caused(UnexpectedToolError("a"), ExceptionGroup("b", [REFUSED])), "rejected", "check_name"),
    (caused(UnexpectedToolError("a"), ExceptionGroup("b", [DOWN, RuntimeError(SECRET)])), "crashed", "crashed"),
    (caused(UnexpectedToolError("a"), ExceptionGroup("b", [DOWN, REFUSED])), "crashed", "crashed"),
    (caused(UnexpectedToolError("a"), RuntimeError(SECRET), DOWN), "crashed", "crashed"),
    (caused(UnexpectedToolError("a"), MISUSED), "crashed", "crashed"),
    (ResultTooLarge("large"), "too_large", "too_large"),
    (RuntimeError(SECRET), "crashed", "crashed"),
    (UnicodeEncodeError("utf-8", "\ud800", 0, 1, SECRET), "crashed", "crashed"),
]
OF_OTHERS = [
    (caused(ValueError("a"), ValueError("a"), WRONG_PROMPT), "rejected", "schema"),
    (caused(ValueError("a"), ValueError("a"), REFUSED), "rejected", "check_name"),
    (caused(ValueError("a"), ValueError("a"), OWN_DATA), "crashed", "crashed"),
    (ValueError("Missing required arguments: {'a'}"), "crashed", "crashed"),
    (caused(UnexpectedResourceError("a"), UnexpectedResourceError("a"), REFUSED), "rejected", "check_name"),
    (caused(UnexpectedResourceError("a"), RuntimeError(SECRET)), "crashed", "crashed"),
    (
        caused(ValueError("a"), ValueError("a"), UpstreamError("b"), OSError(SECRET)),
        "upstream_failed",
        "upstream_failed",
    ),
    (caused(UnexpectedResourceError("a"), UpstreamError("b"), OSError(SECRET)), "upstream_failed", "upstream_failed"),
    (caused(ResourceError("later"), UpstreamError("b"), OSError(SECRET)), "upstream_failed", "upstream_failed"),
    (caused(UnexpectedResourceError("a"), ConfigurationError("b"), InvalidInput("c")), "crashed", "crashed"),
    (ResourceNotFoundError("nothing there"), "unknown", "unknown"),
    (ResourceError("not now"), "failed", "failed"),
]


@pytest.mark.parametrize(("error", "name", "reason"), OF_TOOLS + OF_OTHERS, ids=lambda value: repr(value)[:60])
def test_every_end_has_an_outcome(error: Exception, name: str, reason: str) -> None:
    outcome = classify(error, {"declared"})
    assert outcome is not None
    assert (outcome.name, outcome.reason) == (name, reason)
    assert outcome.is_of_caller == (name in {"rejected", "unknown"})
    assert bool(outcome.message) == (name != "crashed")
    assert SECRET not in outcome.message + outcome.cause
    assert "stock.internal" not in outcome.message


@pytest.mark.parametrize(
    ("error", "event", "severity", "logged"),
    [
        (caused(UnexpectedToolError("a"), REFUSED), "input_validation_failed", "medium", None),
        (caused(UnexpectedToolError("a"), DOWN), "tool_execution_failed", "medium", "warning"),
        (caused(UnexpectedToolError("a"), MISUSED), "tool_execution_failed", "high", "error"),
        (caused(ToolError("no"), ToolError("no")), "tool_execution_failed", "low", None),
    ],
)
def test_whose_fault_it_is_decides_event_severity_and_log(
    error: Exception, event: str, severity: str, logged: str | None
) -> None:
    events = EventLog()
    audit: dict[str, Any] = {}
    outcome = classify(error)
    assert outcome is not None
    with capture_logs() as lines:
        outcome.note(error, events, audit, tool="stock")
    (noted,) = events.recent()
    assert (noted["event"], noted["severity"]) == (event, severity)
    assert audit == {"outcome": outcome.name}
    told = [
        line
        for line in lines
        if line.get("tool") == "stock" and line["log_level"] in {"warning", "error"} and "cause" in line
    ]
    assert [line["log_level"] for line in told] == ([] if logged is None else [logged])
    for line in told:
        assert line["cause"] in {
            "the service is down [stock.internal: ConnectError (Connection refused)]",
            "a header cannot be sent",
        }


def test_arguments_of_a_function_that_is_not_declared_are_its_own_data() -> None:
    outcome = classify(caused(ValueError("a"), WRONG_PROMPT), {"another"})
    assert outcome is not None
    assert outcome.name == "crashed"
    assert isinstance(WRONG_PROMPT, ValidationError)


async def test_an_error_of_the_protocol_and_a_cancellation_go_on() -> None:
    assert classify(MCPError(code=1, message="a")) is None
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await asyncio.sleep(0)
    assert classify(cancelled.value) is None
    task.uncancel()


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt(), GeneratorExit()], ids=repr)
async def test_what_would_end_the_server_is_a_crash(error: BaseException) -> None:
    outcome = classify(error)
    assert outcome is not None
    assert outcome.name == "crashed"


async def test_a_cancellation_that_a_function_raises_itself_is_a_crash() -> None:
    outcome = classify(asyncio.CancelledError())
    assert outcome is not None
    assert outcome.name == "crashed"
