"""Asking a person: what each answer comes to."""

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field
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
    _input_params: Any = field(default_factory=SimpleNamespace)

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


async def put(confirmations: Confirmations) -> str:
    """Put a question, and return its state."""
    question = await confirmations.ask(call(), "delete", ARGUMENTS)
    assert isinstance(question, InputRequiredResult)
    assert question.request_state is not None
    return question.request_state


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
    confirmations = Confirmations()
    answer = call(request_state=await put(confirmations), input_responses=responses)
    assert await confirmations.ask(answer, "delete", ARGUMENTS) == expected


@pytest.mark.parametrize("first", ["accept", "decline", "cancel"])
async def test_an_answer_counts_once_whatever_it_was(first: Literal["accept", "decline", "cancel"]) -> None:
    confirmations = Confirmations()
    state = await put(confirmations)
    await confirmations.ask(call(request_state=state, input_responses=answered(first, confirm=True)), "delete", {})
    again = call(request_state=state, input_responses=answered("accept", confirm=True))
    assert await confirmations.ask(again, "delete", {}) == "replayed"


@pytest.mark.parametrize("state", ["", "state-1", "question.abc", "a.b"])
async def test_the_state_of_another_question_is_no_confirmation(state: str) -> None:
    """The tool itself may ask something else, and the SDK seals that state as well."""
    answer = call(request_state=state, input_responses=answered("accept", confirm=True))
    assert await Confirmations().ask(answer, "delete", ARGUMENTS) == "replayed"


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


@pytest.mark.parametrize(("was_open", "expected"), [(True, "accepted"), (False, "replayed"), (None, "cannot_check")])
async def test_a_question_of_all_replicas_counts_while_they_know_it_as_open(
    was_open: bool | None, expected: str
) -> None:
    class Others:
        """Redis, which knows the question."""

        async def put(self) -> str | None:
            return "id"

        async def answer(self, state: str) -> bool | None:
            assert state == "id"
            return was_open

    confirmations = Confirmations(Others())
    question = await confirmations.ask(call(), "delete", ARGUMENTS)
    assert isinstance(question, InputRequiredResult)
    answer = call(request_state=question.request_state, input_responses=answered("accept", confirm=True))
    assert confirmations.is_answer(answer)
    assert await confirmations.ask(answer, "delete", ARGUMENTS) == expected


async def test_used_answers_are_forgotten_when_they_can_no_longer_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    confirmations = Confirmations()
    monkeypatch.setattr(confirmation, "LIFETIME", 0.0)
    for _ in range(100):
        await confirmations.ask(call(request_state=await put(confirmations)), "delete", ARGUMENTS)
    assert len(vars(confirmations)["_used"]) <= 2


async def test_a_used_answer_is_remembered_as_long_as_its_seal_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seal begins with the question, and the answer comes later."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(confirmation, "time", SimpleNamespace(monotonic=lambda: clock.now))
    confirmations, yes = Confirmations(), answered("accept", confirm=True)
    used = await put(confirmations)
    assert await confirmations.ask(call(request_state=used, input_responses=yes), "delete", ARGUMENTS) == "accepted"
    for age in (0, 1, LIFETIME / 2, LIFETIME - 1, LIFETIME, LIFETIME + 60):
        clock.now = 1000 + age
        other = await put(confirmations)
        await confirmations.ask(call(request_state=other, input_responses=yes), "delete", ARGUMENTS)
        again = await confirmations.ask(call(request_state=used, input_responses=yes), "delete", ARGUMENTS)
        assert again == "replayed", age


async def test_a_used_answer_is_forgotten_after_twice_the_lifetime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(confirmation, "time", SimpleNamespace(monotonic=lambda: clock.now))
    confirmations, remembered = Confirmations(), []
    for age in (0.0, 2 * LIFETIME - 1, 2 * LIFETIME):
        clock.now = 1000 + age
        await confirmations.ask(call(request_state=await put(confirmations)), "delete", ARGUMENTS)
        remembered.append(len(vars(confirmations)["_used"]))
    assert remembered == [1, 2, 2]


@pytest.mark.parametrize("state", ["state-1", "state 1 ", "", None])
async def test_a_question_of_the_tool_gets_its_state_back_and_is_accepted_once(state: str | None) -> None:
    confirmations = Confirmations()
    answer = call(request_state=await confirmations.carried(state))
    assert confirmations.is_answer(answer)
    assert await confirmations.ask(answer, "delete", ARGUMENTS) == "accepted"
    assert vars(answer)["_input_params"].request_state == (state or None)
    assert await confirmations.ask(answer, "delete", ARGUMENTS) == "replayed"


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
    question = await Confirmations().ask(call(), "wipe", arguments)
    assert time.thread_time() - started < 10 * plain
    assert len(asked(question).message) < 5000


async def test_of_long_arguments_both_ends_are_shown_with_the_length_and_digest_of_the_whole() -> None:
    text = "begin" + "a" * 9000 + "\u202eend"
    arguments = {"text": text, "rows": [{"n": number} for number in range(2000)], "name": "notes.txt"}
    shown = asked(await Confirmations().ask(call(), "delete", arguments)).message
    assert shown.startswith('Run the tool delete with these arguments?\ntext: "begin')
    for part in (r'\u202eend"', '{"n":1999}]', 'name: "notes.txt"'):
        assert part in shown
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert f"\n[cut here; the whole has {len(text)} characters, SHA-256 {digest}]\n" in shown
    assert len(shown) < 5000


async def test_a_value_cannot_pretend_to_be_cut() -> None:
    forged = "a\n[cut here; the whole has 1 characters, SHA-256 0]\nb"
    for text in (forged, forged + "c" * 9000, "c" * 9000 + forged):
        shown = asked(await Confirmations().ask(call(), "delete", {"text": text})).message
        assert sum(line.startswith("[cut here") for line in shown.splitlines()) == (len(text) > 4000)


async def test_many_arguments_are_all_shown() -> None:
    arguments = {f"argument_{number}": "x" * 500 for number in range(60)}
    shown = asked(await Confirmations().ask(call(), "delete", arguments)).message
    assert all(f'{name}: "xxx' in shown for name in arguments)


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


async def test_the_second_round_is_known_by_its_state() -> None:
    confirmations = Confirmations()
    assert confirmations.is_answer(call(request_state=await put(confirmations)))
    # Else a tool that asks something itself could be called again and again with its state, uncounted.
    assert not confirmations.is_answer(call(request_state="state-1"))
    assert not confirmations.is_answer(call())
    assert not confirmations.is_answer(None)


async def test_an_older_client_has_five_minutes_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = []

    def timeout(seconds: float) -> asyncio.Timeout:
        allowed.append(seconds)
        return asyncio.timeout(seconds)

    monkeypatch.setattr(confirmation, "asyncio", SimpleNamespace(timeout=timeout))
    await Confirmations().ask(call(protocol_version="2025-06-18", answer=DeclinedElicitation()), "delete", ARGUMENTS)
    assert allowed == [5 * 60]


async def test_a_person_who_never_answers_has_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "LIFETIME", 0.02)
    with anyio.fail_after(5):
        assert await Confirmations().ask(call(protocol_version="2025-06-18"), "delete", ARGUMENTS) == "cancelled"


def test_arguments_are_shown_as_json_with_other_spaces_as_escapes() -> None:
    assert confirmation._shown({"a": 1}) == '{\n  "a": 1\n}'
    assert confirmation._shown({"a": "b\u00a0c\u2003"}) == '{\n  "a": "b\\u00a0c\\u2003"\n}'


def test_arguments_are_shown_whole_up_to_the_limit() -> None:
    overhead = len(confirmation._shown({"a": ""}))
    assert confirmation._shown({"a": "x" * (4000 - overhead)}).startswith("{"), "as JSON"
    assert confirmation._shown({"a": "x" * (4001 - overhead)}).startswith("a: "), "one by one"
    assert confirmation._preview("x" * 98, 100) == f'"{"x" * 98}"'
    assert "[cut here" in confirmation._preview("x" * 99, 100)


def test_of_a_long_value_each_end_fills_half_of_the_room() -> None:
    begin, _, end = confirmation._preview("a" * 500 + "b" * 500, 100).splitlines()
    assert (begin, end) == ('"' + "a" * 49, "b" * 49 + '"')
