"""The path of one tool call: scopes, rate, slots, strict arguments, confirmation, deadline, function, output filtering.

Every refusal and failure becomes a result that the model can read, an event, and the outcome of the audit line.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult, TextContent

from ..counters import count_decision
from ..events.log import EventLog, Kind
from ..limits.rate_limiter import LimiterFactory, RateLimiter
from ..limits.slots import Slots, current_slot
from ..sinks.hidden import without_hidden
from ..sinks.http import call_deadline
from .arguments import Arguments
from .confirmation import Confirmations, OpenQuestions, is_answer
from .outcome import classify
from .output import fit_to_send
from .record import Recorder, audited, caller
from .running import Keeping, RunningCall, begin
from .scopes import require
from .tools import GuardedTool

Result = CallToolResult | InputRequiredResult
Run = Callable[[dict[str, Any]], Awaitable[Result]]

_NOT_CONFIRMED = {
    "declined": "The person declined. Nothing was done.",
    "cancelled": "The person did not answer. Nothing was done.",
    "replayed": "That confirmation was used already, or has ended. Nothing was done; call the tool again to ask anew.",
    "cannot_check": "That confirmation cannot be checked now. Nothing was done; call the tool again to ask anew.",
    "cannot_ask": "This tool asks a person before it runs, and this client cannot ask. Nothing was done.",
    "too_long_to_show": "The arguments are too long to be shown to a person. Nothing was done.",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one server's calls.

    Args:
        max_concurrent_calls: tool calls that may run at the same time, all tools together.
        max_result_bytes: largest result of a tool, a resource or a prompt, as JSON.
        make_limiter: makes the counters of the tools' calls per minute.
    """

    max_concurrent_calls: int = 100
    max_result_bytes: int = 1_048_576
    make_limiter: LimiterFactory = RateLimiter


DEFAULT_LIMITS = Limits()


class ToolGuard:
    """Runs tools within their policies.

    Args:
        events: where refusals and failures are noted.
        limits: of all calls together.
        recorder: records every call.
        keeping: what tools keep and seal with.
        questions: confirmations that all replicas share.
    """

    def __init__(
        self,
        *,
        events: EventLog,
        limits: Limits,
        recorder: Recorder,
        keeping: Keeping,
        questions: OpenQuestions | None = None,
    ) -> None:
        self._events = events
        self._recorder = recorder
        self._keeping = keeping
        self._slots = Slots(limits.max_concurrent_calls)
        self._confirmations = Confirmations(questions)
        self._max_result_bytes = limits.max_result_bytes

    async def call(
        self, guarded: GuardedTool, given: dict[str, Any], context: Context[Any, Any] | None, run: Run
    ) -> Result:
        """Call a tool within its policy; `run` calls it by the SDK.

        Raises:
            MCPError: if the caller lacks a scope, or the tool raised it.
        """
        name, arguments = guarded.tool.name, Arguments(given)
        with audited(self._recorder, "tool_call", arguments.encoded, tool=name) as audit:
            try:
                return await self._admitted(guarded, arguments, context, run, audit)
            except BaseException as error:
                outcome = classify(error)
                if outcome is None:
                    raise
                outcome.note(error, self._events, audit, tool=name)
                return _error(outcome.message or f"The tool {name} failed. The server's log says why.")

    async def _admitted(
        self,
        guarded: GuardedTool,
        arguments: Arguments,
        context: Context[Any, Any] | None,
        run: Run,
        audit: dict[str, Any],
    ) -> Result:
        """Check scopes, rate and slots."""
        name, policy = guarded.tool.name, guarded.policy
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
        begin(RunningCall(name, arguments, self._keeping))
        try:
            guarded.tool.fn_metadata.validate_arguments(arguments)  # before the user is asked about them
            return await self._confirmed(guarded, arguments, context, run, audit)
        finally:
            slot.release()

    async def _confirmed(
        self,
        guarded: GuardedTool,
        arguments: Arguments,
        context: Context[Any, Any] | None,
        run: Run,
        audit: dict[str, Any],
    ) -> Result:
        name, policy = guarded.tool.name, guarded.policy
        answer = await self._confirmations.ask(context, name, arguments) if policy.confirm else "accepted"
        if isinstance(answer, InputRequiredResult):
            audit["outcome"] = "asked"
            if context is not None and context.input_responses:
                self._events.record("input_validation_failed", caller(), tool=name, reason="unasked_answer")
            return answer
        if answer != "accepted":
            severity = "medium" if answer == "replayed" else "low"
            return self._refused(audit, answer, _NOT_CONFIRMED[answer], severity=severity)
        try:
            async with asyncio.timeout(policy.timeout) as deadline:
                call_deadline.set(deadline.when() or math.inf)
                result = await run(arguments)
        except TimeoutError:
            if not deadline.expired():
                raise
            text = f"{name} did not finish within {policy.timeout:g} seconds and was stopped."
            return self._refused(audit, "timeout", text, severity="medium")
        if isinstance(result, InputRequiredResult):
            audit["outcome"] = "asked"
        return fit_to_send(result, self._events, max_bytes=self._max_result_bytes, tool=name)

    def _refused(
        self, audit: dict[str, Any], outcome: str, text: str, event: Kind = "tool_execution_failed", **details: Any
    ) -> CallToolResult:
        """Note an outcome in the audit line and as an event, and return `text` as an error result."""
        audit["outcome"] = outcome
        self._events.record(event, caller(), **{"tool": audit["tool"], "reason": outcome, **details})
        return _error(text)


def _error(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=without_hidden(text))], is_error=True)
