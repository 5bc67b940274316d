"""Asks a person before a destructive tool runs, showing the exact arguments.

Newer clients are asked by a multi-round trip (MCP 2026-07-28): the answer comes back with a state that the SDK has
sealed, bound to principal, tool and arguments, and dated; here each state is accepted once. Older clients with a
channel back (stdio) are asked over it. Where nobody can be asked, the tool is not run.
"""

import asyncio
import json
import re
import secrets
import time
from typing import Any, Literal, Protocol

from mcp.server.mcpserver import Context
from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from pydantic import BaseModel, Field

from ..mcp.sdk import MODERN_PROTOCOL_VERSIONS
from ..sinks.hidden import escape_hidden

LIFETIME = 300.0
"""Seconds that a person has to answer."""

_LONGEST_QUESTION = 4000
_KEY = "confirm"
_OTHER_SPACES = re.compile(r"[^\S \n]")

Outcome = Literal["accepted", "declined", "cancelled", "replayed", "cannot_check", "cannot_ask", "too_long_to_show"]


class Answer(BaseModel):
    """The form that the person fills in."""

    confirm: bool = Field(title="Run it", description="Whether to run the tool with exactly these arguments")


class OpenQuestions(Protocol):
    """Questions that wait for an answer, known to all replicas. None: that cannot be said now."""

    async def put(self) -> str | None:
        """Return the state of a new question."""

    async def answer(self, state: str) -> bool | None:
        """Close a question, and return whether it was open."""


class Confirmations:
    """Sees to it that no answer counts twice.

    Args:
        shared: the questions of all replicas; without, the answers to this process are remembered here.
    """

    def __init__(self, shared: OpenQuestions | None = None) -> None:
        self._shared = shared
        self._used: dict[str, float] = {}
        # Begins the states of questions that were put while the others could not be told: they are answered here only.
        self._mine = secrets.token_hex(8) + "."

    async def ask(
        self, context: Context[Any, Any] | None, tool: str, arguments: dict[str, Any]
    ) -> Outcome | InputRequiredResult:
        """Return what the person said, or the question to send: the call cannot go on before it is answered."""
        if context is None or context.client_capabilities is None or context.client_capabilities.elicitation is None:
            return "cannot_ask"
        question = _question(tool, arguments)
        if question is None:
            return "too_long_to_show"
        if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return await _ask_directly(context, question)
        if context.request_state is None:
            return _input_required(question, await self._new_state())
        refused = await self._closed(context.request_state)
        return refused or _judge((context.input_responses or {}).get(_KEY))

    async def _new_state(self) -> str:
        state = await self._shared.put() if self._shared is not None else None
        return state or self._mine + secrets.token_urlsafe(16)

    async def _closed(self, state: str) -> Literal["replayed", "cannot_check"] | None:
        """Close a question; if it was not open, say so."""
        if self._shared is not None and not state.startswith(self._mine):
            was_open = await self._shared.answer(state)
            return None if was_open else "cannot_check" if was_open is None else "replayed"
        now = time.monotonic()
        # The seal has expired for older ones, so they cannot come back. The oldest is the first.
        while self._used and self._used[oldest := next(iter(self._used))] <= now:
            del self._used[oldest]
        if state in self._used:
            return "replayed"
        self._used[state] = now + 2 * LIFETIME
        return None


def is_answer(context: Context[Any, Any] | None) -> bool:
    """Whether a call brings the sealed state of a question along: the SDK has checked it, and it counts once."""
    return context is not None and context.request_state is not None


async def _ask_directly(context: Context[Any, Any], question: str) -> Outcome:
    try:
        async with asyncio.timeout(LIFETIME):  # a question that nobody answers must not keep its slot
            answer = await context.elicit(question, Answer)
    except TimeoutError:
        return "cancelled"
    return _outcome(answer.action, answer.data.confirm if answer.action == "accept" else None)


def _judge(answer: object) -> Outcome:
    if not isinstance(answer, ElicitResult):
        return "cancelled"
    return _outcome(answer.action, (answer.content or {}).get("confirm"))


def _outcome(action: Literal["accept", "decline", "cancel"], confirm: object) -> Outcome:
    if action == "accept":
        return "accepted" if confirm is True else "declined"
    return "declined" if action == "decline" else "cancelled"


def _input_required(question: str, state: str) -> InputRequiredResult:
    form = ElicitRequestFormParams(message=question, requested_schema=Answer.model_json_schema())
    return InputRequiredResult(input_requests={_KEY: ElicitRequest(params=form)}, request_state=state)


def _question(tool: str, arguments: dict[str, Any]) -> str | None:
    # The readable form costs a hundred times as much as this one, and is longer.
    if len(json.dumps(arguments, ensure_ascii=False)) > _LONGEST_QUESTION:
        return None
    # What a person cannot see must not be in what the person agrees to. No other space passes for a common one.
    shown = escape_hidden(json.dumps(arguments, indent=2, ensure_ascii=False))
    shown = _OTHER_SPACES.sub(lambda space: f"\\u{ord(space[0]):04x}", shown)
    question = f"Run the tool {tool} with these arguments?\n{shown}"
    return question if len(question) <= _LONGEST_QUESTION else None
