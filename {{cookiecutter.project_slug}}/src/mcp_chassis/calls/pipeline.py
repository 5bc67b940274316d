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
from ..limits.slots import Slot, Slots, current_slot
from ..mcp import sdk
from ..sinks.http import call_deadline
from .arguments import Arguments
from .confirmation import Confirmations
from .outcome import classify
from .output import Output
from .record import Recorder, audited, caller
from .running import Keeping, RunningCall, begin
from .scopes import require
from .tools import GuardedTool

_ASK_BY_RESOLVE = (
    "while it runs, which this connection cannot carry. Over HTTP a tool asks before it runs: its author declares a "
    "parameter Annotated[..., Resolve(function)] instead of calling ctx.elicit; sampling and roots need stdio."
)
Result = CallToolResult | InputRequiredResult
Run = Callable[[dict[str, Any]], Awaitable[Result]]
McpContext = Context[Any, Any] | None

_NOT_CONFIRMED = {
    "declined": "The person declined. Nothing was done.",
    "cancelled": "The person did not answer. Nothing was done.",
    "replayed": "That confirmation was used already, or has ended. Nothing was done; call the tool again to ask anew.",
    "cannot_check": "That confirmation cannot be checked now. Nothing was done; call the tool again to ask anew.",
    "cannot_ask": "This tool asks a person before it runs, and this client cannot ask. Nothing was done.",
}


@dataclass(frozen=True, kw_only=True)
class ToolGuard:
    """Runs tools within their policies."""

    events: EventLog
    slots: Slots
    output: Output
    recorder: Recorder
    keeping: Keeping
    confirmations: Confirmations

    async def call(self, guarded: GuardedTool, given: dict[str, Any], context: McpContext, run: Run) -> Result:
        """Call a tool within its policy; `run` calls it by the SDK.

        Raises:
            MCPError: if the caller lacks a scope, or the tool raised it.
        """
        name, arguments = guarded.tool.name, Arguments(given)
        with audited(self.recorder, "tool_call", arguments.encoded, tool=name) as audit:
            try:
                slot = await self._admitted(guarded, context, audit)
                if not isinstance(slot, Slot):
                    return slot
                current_slot.set(slot)
                begin(RunningCall(name, arguments, self.keeping))
                try:
                    guarded.tool.fn_metadata.validate_arguments(arguments)  # before the user is asked about them
                    return await self._confirmed(guarded, arguments, context, run, audit)
                finally:
                    slot.release()
            except sdk.NoBackChannelError as error:
                text = f"{name} sends {error.method} {_ASK_BY_RESOLVE}"
                return self._refused(audit, "cannot_ask", text, severity="medium")
            except BaseException as error:
                outcome = classify(error)
                if outcome is None:
                    raise
                outcome.note(error, self.events, audit, tool=name)
                text = outcome.message or f"The tool {name} failed. The server's log says why."
                return self.output.error(text, guarded, by_tool=outcome.name == "failed")

    async def _admitted(
        self, guarded: GuardedTool, context: McpContext, audit: dict[str, Any]
    ) -> Slot | CallToolResult:
        """Check scopes, rate and slots; return the slot, or the refusal."""
        name, policy = guarded.tool.name, guarded.policy
        require(policy.scopes, self.events, audit, {"tool": name})
        # The answer to a question belongs to the call that was counted when the question was put.
        limiter = None if policy.confirm and self.confirmations.is_answer(context) else guarded.limiter
        if limiter is not None:
            decision = await limiter.hit(caller())
            count_decision("tool", allowed=decision.allowed)
            if not decision.allowed:
                wait = decision.retry_after
                text = f"Too many calls of {name}. Try again in {wait} seconds."
                return self._refused(audit, "rate_limited", text, "rate_limit_exceeded", retry_after=wait)
        slot = self.slots.take(name, policy.max_concurrency)
        if slot is None:
            text = f"{name} is busy. Try again in a few seconds."
            return self._refused(audit, "busy", text, "rate_limit_exceeded")
        return slot

    async def _confirmed(
        self, guarded: GuardedTool, arguments: Arguments, context: McpContext, run: Run, audit: dict[str, Any]
    ) -> Result:
        name, policy = guarded.tool.name, guarded.policy
        shown = arguments | _defaults(guarded, arguments) if policy.confirm else {}
        answer = await self.confirmations.ask(context, name, shown) if policy.confirm else "accepted"
        if isinstance(answer, InputRequiredResult):
            audit["outcome"] = "asked"
            if context is not None and context.input_responses:
                self.events.record("input_validation_failed", caller(), tool=name, reason="unasked_answer")
            return answer
        if policy.destructive and (not policy.confirm or (answer == "cannot_ask" and policy.confirm == "if-possible")):
            audit["confirmed"] = False
            answer = "accepted"
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
            if policy.confirm and audit.get("confirmed", True):
                state = await self.confirmations.carried(result.request_state)
                result = result.model_copy(update={"request_state": state})
            return self.output.fit(result, {"tool": name}, redact=policy.redact)
        return self.output.of_tool(result, guarded)

    def _refused(
        self, audit: dict[str, Any], outcome: str, text: str, event: Kind = "tool_execution_failed", **details: Any
    ) -> CallToolResult:
        """Note an outcome in the audit line and as an event, and return `text` as an error result."""
        audit["outcome"] = outcome
        self.events.record(event, caller(), **{"tool": audit["tool"], "reason": outcome, **details})
        return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _defaults(guarded: GuardedTool, given: Arguments) -> dict[str, Any]:
    """Return the defaults that apply to a call, under names that say so."""
    members = guarded.tool.parameters.get("properties", {}).items()
    return {f"{name} (default)": one["default"] for name, one in members if "default" in one and name not in given}
