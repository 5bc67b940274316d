"""Asks the user before a destructive tool runs, showing the exact arguments; of long ones both ends and a SHA-256.

Newer clients are asked by a multi-round trip (MCP 2026-07-28): the answer comes back with a state that the SDK has
sealed, bound to principal, tool and arguments, and dated; here each state is accepted once. Older clients with a
back channel (stdio) are asked over it. Where the client cannot ask, the tool is not run.
"""

import asyncio
import hashlib
import re
import secrets
import time
from typing import Any, Literal, Protocol, TypeGuard, cast

import pydantic_core
from mcp.server.mcpserver import Context
from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from pydantic import BaseModel, Field

from ..mcp import sdk
from ..sinks.hidden import escape_hidden

LIFETIME = 300.0
"""Seconds that the user has to answer."""

_MAX_SHOWN = 4000  # characters of arguments
_MIN_SHOWN = 80  # of each argument, however many there are
_SHARED = "question."  # begins the states of questions that all replicas know
_KEY = "confirm"
_OTHER_SPACES = re.compile(r"[^\S \n]")

Verdict = Literal["accepted", "declined", "cancelled", "replayed", "cannot_check", "cannot_ask"]


class Answer(BaseModel):
    """The form that the user fills in."""

    confirm: bool = Field(title="Run it", description="Whether to run the tool with exactly these arguments")


class OpenQuestions(Protocol):
    """Questions that wait for an answer, known to all replicas. They answer None while they are unavailable."""

    async def put(self) -> str | None:
        """Return the state of a new question."""

    async def answer(self, state: str) -> bool | None:
        """Close a question, and return whether it was open."""


class Confirmations:
    """Asks the questions, and accepts each answer once.

    Args:
        shared: the questions of all replicas; without it this process remembers the answers that it got.
    """

    def __init__(self, shared: OpenQuestions | None = None) -> None:
        self._shared = shared
        self._used: dict[str, float] = {}
        # Begins the states of questions that were put while `shared` was unavailable: only this process knows them.
        self._mine = secrets.token_hex(8) + "."

    async def ask(
        self, context: Context[Any, Any] | None, tool: str, arguments: dict[str, Any]
    ) -> Verdict | InputRequiredResult:
        """Return the user's answer, or the question to send: the call cannot go on before it is answered."""
        if not _can_ask(context):
            return "cannot_ask"
        question = f"Run the tool {tool} with these arguments?\n{_shown(arguments)}"
        if context.protocol_version not in sdk.MODERN_PROTOCOL_VERSIONS:
            return await _ask_directly(context, question)
        if context.request_state is None:
            form = ElicitRequestFormParams(message=question, requested_schema=Answer.model_json_schema())
            state = await self._opened()
            return InputRequiredResult(input_requests={_KEY: ElicitRequest(params=form)}, request_state=state)
        state, is_further, rest = context.request_state.partition(" ")
        refused = await self._closed(state)
        cast(Any, context)._input_params.request_state = rest or None  # the tool's part of it
        if is_further:
            return refused or "accepted"
        answer = (context.input_responses or {}).get(_KEY)
        if refused is None and isinstance(answer, ElicitResult):
            return _outcome(answer.action, (answer.content or {}).get("confirm"))
        return refused or "cancelled"

    def is_answer(self, context: Context[Any, Any] | None) -> bool:
        """Whether `ask` closes a question for this call, which brings its state along, sealed by the SDK."""
        if not _can_ask(context) or context.protocol_version not in sdk.MODERN_PROTOCOL_VERSIONS:
            return False
        return (context.request_state or "").startswith((self._mine, _SHARED))

    async def carried(self, state: str | None) -> str:
        """Return the state of a question that the tool puts after the confirmation: it too is accepted once."""
        return f"{await self._opened()} {state or ''}"

    async def _opened(self) -> str:
        state = await self._shared.put() if self._shared is not None else None
        return _SHARED + state if state else self._mine + secrets.token_urlsafe(16)

    async def _closed(self, state: str) -> Literal["replayed", "cannot_check"] | None:
        """Close a question; if it was not open, say so."""
        if self._shared is not None and state.startswith(_SHARED):
            was_open = await self._shared.answer(state.removeprefix(_SHARED))
            return None if was_open else "cannot_check" if was_open is None else "replayed"
        if not state.startswith(self._mine):  # another question of the tool, or of a server that is gone
            return "replayed"
        now = time.monotonic()
        # The seal has expired for older ones, so they cannot come back. The oldest is the first.
        while self._used and self._used[oldest := next(iter(self._used))] <= now:
            del self._used[oldest]
        if state in self._used:
            return "replayed"
        self._used[state] = now + 2 * LIFETIME
        return None


def _can_ask(context: Context[Any, Any] | None) -> TypeGuard[Context[Any, Any]]:
    capabilities = context.client_capabilities if context is not None else None
    return capabilities is not None and capabilities.elicitation is not None


async def _ask_directly(context: Context[Any, Any], question: str) -> Verdict:
    try:
        async with asyncio.timeout(LIFETIME):  # an unanswered question must not keep its slot
            answer = await context.elicit(question, Answer)
    except TimeoutError:
        return "cancelled"
    return _outcome(answer.action, answer.data.confirm if answer.action == "accept" else None)


def _outcome(action: str, confirm: object) -> Verdict:
    if action == "accept":
        return "accepted" if confirm is True else "declined"
    return "declined" if action == "decline" else "cancelled"


def _shown(arguments: dict[str, Any]) -> str:
    readable = pydantic_core.to_json(arguments, indent=2).decode()
    if len(readable) <= _MAX_SHOWN and len(shown := _escaped(readable)) <= _MAX_SHOWN:
        return shown
    room = max(_MIN_SHOWN, _MAX_SHOWN // len(arguments))
    return "\n".join(f"{_escaped(name)}: {_preview(value, room)}" for name, value in arguments.items())


def _preview(value: Any, room: int) -> str:
    """Return both ends of a long value: the dangerous part may be at either. No value holds the line between them."""
    text = pydantic_core.to_json(value).decode()
    if len(text) <= room and len(shown := _escaped(text)) <= room:
        return shown
    whole, half = value if isinstance(value, str) else text, room // 2
    begin, end = _escaped(text[:half])[:half], _escaped(text[-half:])[-half:]
    digest = hashlib.sha256(whole.encode()).hexdigest()
    return f"{begin}\n[cut here; the whole has {len(whole)} characters, SHA-256 {digest}]\n{end}"


def _escaped(text: str) -> str:
    """Show what the user could not see, and every space that would pass for a common one."""
    return _OTHER_SPACES.sub(lambda space: f"\\u{ord(space[0]):04x}", escape_hidden(text))
