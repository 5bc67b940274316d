"""The way of one tool call: scopes, rate, slots, strict arguments, confirmation, deadline, your function, hygiene.

Every refusal and failure becomes a result that the model can read, an event, and the outcome of the audit line.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from ..counters import count_decision
from ..events.log import EventLog, Kind
from ..limits.slots import Slots, current_slot
from ..mcp.sdk import ToolError, UnexpectedToolError
from ..sinks.errors import InvalidInput
from ..sinks.hidden import without_hidden
from .arguments import broken_rule, rejection
from .confirmation import Confirmations, OpenQuestions, is_answer
from .output import ResultTooLarge, error_text, fit_to_send
from .record import audited, caller
from .recorder import Recorder
from .scopes import require
from .tools import GuardedTool

Result = CallToolResult | InputRequiredResult
Run = Callable[[], Awaitable[Result]]

error_log = structlog.get_logger("error")

# What a call may end with beside a result. Half a surrogate pair in a result cannot be sent.
_EXPLAINED = (ToolError, ValidationError, InvalidInput, ResultTooLarge, PydanticSerializationError)

_NOT_CONFIRMED = {
    "declined": "The person declined. Nothing was done.",
    "cancelled": "The person did not answer. Nothing was done.",
    "replayed": "That confirmation was used already, or has ended. Nothing was done; call the tool again to ask anew.",
    "cannot_check": "That confirmation cannot be checked now. Nothing was done; call the tool again to ask anew.",
    "cannot_ask": "This tool asks a person before it runs, and this client cannot ask. Nothing was done.",
    "too_long_to_show": "The arguments are too long to be shown to a person. Nothing was done.",
}


class ToolGuard:
    """Runs tools within their policies.

    Args:
        events: where refusals and failures are noted.
        max_concurrent_calls: calls that may run at the same time, all tools together.
        max_result_bytes: largest result, as JSON.
        questions: to people, that all replicas know of.
        recorder: records every call.
    """

    def __init__(
        self,
        *,
        events: EventLog,
        max_concurrent_calls: int,
        max_result_bytes: int,
        questions: OpenQuestions | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._recorder = recorder or Recorder()
        self._events = events
        self._slots = Slots(max_concurrent_calls)
        self._confirmations = Confirmations(questions)
        self._max_result_bytes = max_result_bytes

    async def call(
        self, guarded: GuardedTool, arguments: dict[str, Any], context: Context[Any, Any] | None, run: Run
    ) -> Result:
        """Call a tool within its policy; `run` calls it by the SDK.

        Raises:
            MCPError: if the caller lacks a scope, or the tool raised it.
        """
        name, policy = guarded.tool.name, guarded.policy
        with audited(self._recorder, "tool_call", arguments, tool=name) as audit:
            require(policy.scopes, self._events, audit, tool=name)
            # The answer to a question belongs to the call that was counted when the question was put.
            limiter = None if policy.confirm and is_answer(context) else guarded.limiter
            if limiter is not None:
                decision = await limiter.hit(caller())
                count_decision("tool", allowed=decision.allowed)
                if not decision.allowed:
                    wait = decision.retry_after
                    text = f"Too many calls of {name}. Try again in {wait} seconds."
                    return self._refused(audit, "rate_limited", text, "rate_limit_exceeded", retry_after=wait)
            slot = self._slots.take(name, policy.max_concurrency)
            if slot is None:
                text = f"{name} is busy. Try again in a moment."
                return self._refused(audit, "busy", text, "rate_limit_exceeded")
            current_slot.set(slot)
            try:
                return await self._within_deadline(guarded, arguments, context, run, audit)
            except BaseException as error:
                if not isinstance(error, _EXPLAINED) and not would_end_the_server(error):
                    raise
                return self._explained(name, error, audit)
            finally:
                slot.release()

    async def _within_deadline(
        self,
        guarded: GuardedTool,
        arguments: dict[str, Any],
        context: Context[Any, Any] | None,
        run: Run,
        audit: dict[str, Any],
    ) -> Result:
        name, seconds = guarded.tool.name, guarded.policy.timeout
        if guarded.policy.confirm:
            guarded.tool.fn_metadata.validate_arguments(arguments)  # a person is asked about valid calls only
            if (instead := await self._not_confirmed(name, arguments, context, audit)) is not None:
                return instead
        try:
            async with asyncio.timeout(seconds) as deadline:
                result = await run()
        except TimeoutError:
            if not deadline.expired():
                raise
            text = f"{name} did not finish within {seconds:g} seconds and was stopped."
            return self._refused(audit, "timeout", text, severity="medium")
        if isinstance(result, InputRequiredResult):
            audit["outcome"] = "asked"
        return fit_to_send(result, self._events, max_bytes=self._max_result_bytes, tool=name)

    async def _not_confirmed(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None, audit: dict[str, Any]
    ) -> Result | None:
        """Return None if a person has agreed, else what to answer instead."""
        outcome = await self._confirmations.ask(context, name, arguments)
        if isinstance(outcome, InputRequiredResult):
            audit["outcome"] = "asked"
            if context is not None and context.input_responses:
                self._events.record("input_validation_failed", caller(), tool=name, reason="unasked_answer")
            return outcome
        if outcome == "accepted":
            return None
        severity = "medium" if outcome == "replayed" else "low"
        return self._refused(audit, outcome, _NOT_CONFIRMED[outcome], severity=severity)

    def _explained(self, name: str, error: BaseException, audit: dict[str, Any]) -> CallToolResult:
        """Tell a wrong argument, an anticipated failure and a crash apart. A crash does not speak to the caller."""
        cause = error.__cause__ if isinstance(error, ToolError) else error
        crash = isinstance(error, UnexpectedToolError | PydanticSerializationError) or would_end_the_server(error)
        if isinstance(cause, InvalidInput) or (isinstance(cause, ValidationError) and not crash):
            text = f"Invalid arguments: {rejection(cause) if isinstance(cause, ValidationError) else cause}"
            return self._refused(audit, "rejected", text, "input_validation_failed", reason=broken_rule(cause))
        if crash:
            error_log.error("tool crashed", tool=name, exc_info=error)
            text = f"The tool {name} failed. The server's log says why."
            return self._refused(audit, "crashed", text, severity="high")
        outcome = "too_large" if isinstance(error, ResultTooLarge) else "failed"
        return self._refused(audit, outcome, error_text(error), severity="low")

    def _refused(
        self, audit: dict[str, Any], outcome: str, text: str, event: Kind = "tool_execution_failed", **details: Any
    ) -> CallToolResult:
        """Note an outcome in the audit line and as an event, and return `text` as a result that is an error."""
        audit["outcome"] = outcome
        self._events.record(event, caller(), **{"tool": audit["tool"], "reason": outcome, **details})
        return CallToolResult(content=[TextContent(type="text", text=without_hidden(text))], is_error=True)


def would_end_the_server(error: BaseException) -> bool:
    """Whether called code raised what nobody above catches: argparse exits when it is given nonsense, for example.

    A `CancelledError` may be ours: then this task is being cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return not isinstance(error, Exception)
