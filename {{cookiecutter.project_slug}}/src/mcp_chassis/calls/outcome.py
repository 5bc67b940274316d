"""What the end of a call means: for the caller, for the audit line and as a security event."""

import asyncio
from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mcp import MCPError
from pydantic import ValidationError

from ..events.log import Kind, Severity
from ..mcp import sdk
from ..sinks.errors import InvalidInput
from .arguments import broken_rule, rejection
from .output import ResultTooLarge, error_text

_ENDS: Mapping[str, tuple[Kind, Severity]] = MappingProxyType(
    {
        "rejected": ("input_validation_failed", "medium"),
        "unknown": ("input_validation_failed", "medium"),
        "too_large": ("tool_execution_failed", "low"),
        "failed": ("tool_execution_failed", "low"),
        "crashed": ("tool_execution_failed", "high"),
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call that raised has ended.

    Args:
        name: `rejected`, `unknown`, `too_large`, `failed` or `crashed`.
        message: for the caller. Of a crash there is none: its text may be a secret.
        reason: of the event.
    """

    name: str
    message: str
    reason: str

    @property
    def event(self) -> Kind:
        """The kind of the event."""
        return _ENDS[self.name][0]

    @property
    def severity(self) -> Severity:
        """The severity of the event."""
        return _ENDS[self.name][1]


def classify(error: BaseException, functions: Container[str] = ()) -> Outcome | None:
    """Tell refused input, an anticipated failure and a crash apart.

    Args:
        error: what a tool, a resource or a prompt ended with.
        functions: names of functions whose arguments the SDK validates while it calls them. The models that such a
            function works with have other names, and their errors are crashes: what they quote may be a secret.

    Returns:
        None for an error of the protocol and a cancellation, which go on as they are.
    """
    if isinstance(error, MCPError) or not (isinstance(error, Exception) or would_end_the_server(error)):
        return None
    cause = _cause(error)
    if isinstance(cause, InvalidInput):
        return Outcome("rejected", f"Invalid arguments: {cause}", broken_rule(cause))
    if isinstance(cause, ValidationError) and (cause is error or cause.title in functions):
        return Outcome("rejected", f"Invalid arguments: {rejection(cause)}", broken_rule(cause))
    name = _name(error)
    return Outcome(name, error_text(error) if name != "crashed" else "", name)


def _name(error: BaseException) -> str:
    if isinstance(error, ResultTooLarge):
        return "too_large"
    if isinstance(error, sdk.ResourceNotFoundError):
        return "unknown"
    is_crash = isinstance(error, sdk.UnexpectedToolError | sdk.UnexpectedResourceError)
    return "failed" if isinstance(error, sdk.ToolError | sdk.ResourceError) and not is_crash else "crashed"


def _cause(error: BaseException) -> BaseException:
    """Return what was raised first. The SDK wraps the error of a tool once, those of resources and prompts twice."""
    if isinstance(error, sdk.ToolError):
        return error.__cause__ or error
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def would_end_the_server(error: BaseException) -> bool:
    """Whether called code raised what no caller of it catches: argparse exits on invalid arguments, for example.

    A `CancelledError` may be the server's own: then this task is being cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return not isinstance(error, Exception)
