"""Asking a person: what each answer comes to."""

import json
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, cast

import anyio
import pytest
from mcp.server.elicitation import AcceptedElicitation, DeclinedElicitation
from mcp.server.mcpserver import Context
from mcp.types import (
    ClientCapabilities,
    ElicitationCapability,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_chassis.calls import confirmation
from mcp_chassis.calls.confirmation import (
    LIFETIME,
    Answer,
    Confirmations,
    is_answer,
)

pytestmark = pytest.mark.anyio

MODERN = MODERN_PROTOCOL_VERSIONS[-1]
ARGUMENTS = {"name": "notes.txt"}


@dataclass
class Call:
    """What `Confirmations` looks at of a call's context."""

    protocol_version: str = MODERN
    client_capabilities: ClientCapabilities | None = None
    request_state: str | None = None
    input_responses: dict[str, Any] | None = None
    answer: Any = None

    async def elicit(self, question: str, form: type[Answer]) -> Any:
        """Answer as the person would."""
        assert "notes.txt" in question
        assert form is Answer
        if self.answer is None:
            await anyio.sleep_forever()
        return self.answer


def call(**facts: Any) -> Context[Any, Any]:
    able = ClientCapabilities(elicitation=ElicitationCapability())
    return cast("Context[Any, Any]", Call(**{"client_capabilities": able, **facts}))


def answered(action: Literal["accept", "decline", "cancel"], **content: Any) -> dict[str, Any]:
    return {"confirm": ElicitResult(action=action, content=content or None)}


def asked(question: object) -> ElicitRequestFormParams:
    """Return the form that was sent."""
    assert isinstance(question, InputRequiredResult)
    (request,) = (question.input_requests or {}).values()
    assert isinstance(request, ElicitRequest)
    assert isinstance(request.params, ElicitRequestFormParams)
    return request.params


async def test_the_first_round_asks_and_shows_the_exact_arguments() -> None:
    question = await Confirmations().ask(call(), "delete", {"name": "notes.txt", "deep": {"list": [1, "é"]}})
    shown = asked(question).message
    assert shown.startswith("Run the tool delete with these arguments?")
    for part in ('"name": "notes.txt"', '"deep"', "1", '"é"'):
        assert part in shown


async def test_what_a_person_could_not_see_is_shown_as_an_escape() -> None:
    question = await Confirmations().ask(call(), "delete", {"name": "a\u202eb\u200bc\nd\U000e0061\x1b[2J"})
    shown = asked(question).message
    assert r"a\u202eb\u200bc\nd\U000e0061" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)


async def test_no_two_questions_are_the_same() -> None:
    confirmations, states = Confirmations(), set()
    for _ in range(10):
        question = await confirmations.ask(call(), "delete", ARGUMENTS)
        assert isinstance(question, InputRequiredResult)
        states.add(question.request_state)
    assert len(states) == 10


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        (answered("accept", confirm=True), "accepted"),
        (answered("accept", confirm=False), "declined"),
        (answered("accept", confirm="true"), "declined"),
        (answered("accept", confirm=1), "declined"),
        (answered("accept"), "declined"),
        (answered("decline", confirm=True), "declined"),
        (answered("cancel", confirm=True), "cancelled"),
        ({"other": ElicitResult(action="accept", content={"confirm": True})}, "cancelled"),
        ({"confirm": "accept"}, "cancelled"),
        ({}, "cancelled"),
        (None, "cancelled"),
    ],
    ids=repr,
)
async def test_only_a_clear_yes_is_a_yes(responses: dict[str, Any] | None, expected: str) -> None:
    answer = call(request_state="state-1", input_responses=responses)
    assert await Confirmations().ask(answer, "delete", ARGUMENTS) == expected


@pytest.mark.parametrize("first", ["accept", "decline", "cancel"])
async def test_an_answer_counts_once_whatever_it_was(first: Literal["accept", "decline", "cancel"]) -> None:
    confirmations = Confirmations()
    await confirmations.ask(call(request_state="state-1", input_responses=answered(first, confirm=True)), "delete", {})
    again = call(request_state="state-1", input_responses=answered("accept", confirm=True))
    assert await confirmations.ask(again, "delete", {}) == "replayed"


async def test_a_question_of_an_outage_is_answered_here_once_the_others_can_be_told_again() -> None:
    class Others:
        """Redis is unavailable at the question, and knows nothing of it at the answer."""

        async def put(self) -> str | None:
            return None

        async def answer(self, state: str) -> bool | None:
            return False

    confirmations = Confirmations(Others())
    question = await confirmations.ask(call(), "delete", ARGUMENTS)
    assert isinstance(question, InputRequiredResult)
    answer = call(request_state=question.request_state, input_responses=answered("accept", confirm=True))
    foreign = call(request_state="of another", input_responses=answered("accept", confirm=True))
    outcomes = [await confirmations.ask(context, "delete", ARGUMENTS) for context in (answer, answer, foreign)]
    assert outcomes == ["accepted", "replayed", "replayed"]


async def test_used_answers_are_forgotten_when_they_can_no_longer_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    confirmations = Confirmations()
    monkeypatch.setattr(confirmation, "LIFETIME", 0.0)
    for number in range(100):
        await confirmations.ask(call(request_state=f"state-{number}"), "delete", ARGUMENTS)
    assert len(vars(confirmations)["_used"]) <= 2


async def test_a_used_answer_is_remembered_as_long_as_its_seal_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seal begins with the question, and the answer comes later."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(confirmation, "time", SimpleNamespace(monotonic=lambda: clock.now))
    confirmations, yes = Confirmations(), answered("accept", confirm=True)
    assert await confirmations.ask(call(request_state="used", input_responses=yes), "delete", ARGUMENTS) == "accepted"
    for age in (0, 1, LIFETIME / 2, LIFETIME - 1, LIFETIME, LIFETIME + 60):
        clock.now = 1000 + age
        await confirmations.ask(call(request_state=f"other-{age}", input_responses=yes), "delete", ARGUMENTS)
        again = await confirmations.ask(call(request_state="used", input_responses=yes), "delete", ARGUMENTS)
        assert again == "replayed", age


@pytest.mark.parametrize(
    "context", [None, call(client_capabilities=None), call(client_capabilities=ClientCapabilities())]
)
async def test_who_cannot_be_asked_is_not_asked(context: Context[Any, Any] | None) -> None:
    assert await Confirmations().ask(context, "delete", ARGUMENTS) == "cannot_ask"


async def test_what_is_too_long_to_be_read_is_not_made_readable() -> None:
    """The readable form takes a hundred times as long as the arguments took to parse."""
    arguments = {"values": ["\u202e" * 10] * 50_000}
    started = time.thread_time()
    json.dumps(arguments, ensure_ascii=False)
    plain = time.thread_time() - started
    started = time.thread_time()
    assert await Confirmations().ask(call(), "wipe", arguments) == "too_long_to_show"
    assert time.thread_time() - started < 10 * plain


async def test_what_is_too_long_to_be_read_is_not_asked() -> None:
    assert await Confirmations().ask(call(), "delete", {"text": "a" * 5000}) == "too_long_to_show"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (AcceptedElicitation(data=Answer(confirm=True)), "accepted"),
        (AcceptedElicitation(data=Answer(confirm=False)), "declined"),
        (DeclinedElicitation(), "declined"),
    ],
)
async def test_an_older_client_is_asked_directly(answer: Any, expected: str) -> None:
    context = call(protocol_version="2025-06-18", answer=answer)
    assert await Confirmations().ask(context, "delete", ARGUMENTS) == expected


def test_the_second_round_is_known_by_its_state() -> None:
    assert is_answer(call(request_state="state-1"))
    assert not is_answer(call())
    assert not is_answer(None)


async def test_a_person_who_never_answers_has_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "LIFETIME", 0.02)
    with anyio.fail_after(5):
        assert await Confirmations().ask(call(protocol_version="2025-06-18"), "delete", ARGUMENTS) == "cancelled"
