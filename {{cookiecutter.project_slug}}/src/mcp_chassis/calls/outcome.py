"""What the end of a call means: for the caller, for the audit line, as a security event and in the log.

Whose fault it is decides: the caller's (`rejected`, `unknown`), another system's (`upstream_failed`), or the tool's own
and its configuration's (`crashed`, `invalid_result`). Beside them are what a tool reports itself (`failed`) and results
over the limit.
"""

import asyncio
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from mcp import MCPError
from pydantic import ValidationError

from ..events.log import EventLog, Kind, Severity
from ..mcp import sdk
from ..sinks.errors import ConfigurationError, InvalidInput, UpstreamError
from .arguments import InvalidResult, broken_rule, rejection
from .output import ResultTooLarge
from .record import caller

_SEVERITY: Mapping[str, Severity] = {
    **{"rejected": "medium", "unknown": "medium", "too_large": "low", "failed": "low"},
    **{"upstream_failed": "medium", "crashed": "high", "invalid_result": "high"},
}

_NAMES = (
    (ResultTooLarge, "too_large"),
    (sdk.ResourceNotFoundError, "unknown"),
    (sdk.UnexpectedToolError | sdk.UnexpectedResourceError, "crashed"),
    (sdk.ToolError | sdk.ResourceError, "failed"),
)
_KINDS = (InvalidInput, UpstreamError, ConfigurationError)

error_log = structlog.get_logger("error")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call that raised has ended: its name, the reason of the event, and two texts."""

    name: str
    reason: str
    message: str = ""  # for the caller; of a crash there is none, as its text may be a secret
    cause: str = ""  # for the log, if it is safe there; of other errors the log has types and places only

    @property
    def is_of_caller(self) -> bool:
        """Whether the caller can avoid it by asking differently."""
        return self.name in {"rejected", "unknown"}

    def note(self, error: BaseException, events: EventLog, audit: dict[str, Any], **what: str) -> None:
        """Note it in the audit line and as an event, and in the log unless the caller receives all of it."""
        audit["outcome"] = self.name
        kind: Kind = "input_validation_failed" if self.is_of_caller else "tool_execution_failed"
        events.record(kind, caller(), severity=_SEVERITY[self.name], reason=self.reason, **what)
        called, logged = next(iter(what)), ({"cause": self.cause} if self.cause else {}) | what
        if self.name == "crashed":
            error_log.error(f"{called} crashed", exc_info=_cause(error), **logged)
        elif self.name == "upstream_failed":
            error_log.warning(f"the upstream of a {called} failed", **logged)
        elif self.name == "invalid_result":
            error_log.error(f"the result of a {called} breaks its schema", **logged)


def classify(error: BaseException, functions: Container[str] = ()) -> Outcome | None:
    """Tell refused input, a failed upstream, an anticipated failure and a crash apart.

    None is for an error of the protocol and a cancellation, which go on as they are. `functions` are the names of those
    whose arguments the SDK validates while it calls them. The models that such a function works with have other names,
    and their errors are crashes: what they quote may be a secret.
    """
    if isinstance(error, MCPError) or not (isinstance(error, Exception) or would_end_the_server(error)):
        return None
    cause = _cause(error)
    if isinstance(cause, InvalidResult):
        text = f"The result breaks the tool's output schema: {cause}. The tool has to be corrected, not the call."
        return Outcome("invalid_result", "invalid_result", text, str(cause))
    if isinstance(cause, InvalidInput):
        return Outcome("rejected", broken_rule(cause), f"Invalid arguments: {cause}")
    if isinstance(cause, ValidationError) and (cause is error or cause.title in functions):
        return Outcome("rejected", broken_rule(cause), f"Invalid arguments: {rejection(cause)}")
    name = next((name for kind, name in _NAMES if isinstance(error, kind)), "crashed")
    upstream = next((one for one in _causes(cause) if isinstance(one, UpstreamError)), None)
    if upstream is not None and (upstream is cause or name == "failed"):
        # A tool may say in its own words that it failed: whose fault it is stays.
        message = _text(upstream if upstream is cause else error)
        logged = f"{upstream} [{upstream.cause}]" if upstream.cause else str(upstream)
        return Outcome("upstream_failed", "upstream_failed", message, logged)
    logged = str(cause) if isinstance(cause, ConfigurationError) else ""
    return Outcome(name, name, _text(error) if name != "crashed" else "", logged)


def _text(error: BaseException) -> str:
    return str(error).encode(errors="replace").decode()  # a file's name may hold half of a surrogate pair


def _cause(error: BaseException) -> BaseException:
    """Return what was raised first. The SDK wraps the error of a tool once, those of resources and prompts twice."""
    if isinstance(error, sdk.ToolError):
        return _of_one_kind(error.__cause__ or error)
    causes = list(_causes(error))
    return _of_one_kind(next((one for one in causes if isinstance(one, _KINDS)), causes[-1]))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _of_one_kind(error: BaseException) -> BaseException:
    """Return the first error of a task group whose tasks all failed by the fault of the same side."""
    for kind in _KINDS:
        if isinstance(error, BaseExceptionGroup) and error.split(kind)[1] is None:
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
    return error


def would_end_the_server(error: BaseException) -> bool:
    """Whether called code raised what no caller of it catches: argparse exits on invalid arguments, for example.

    A `CancelledError` may be the server's own: then this task is being cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return not isinstance(error, Exception)
