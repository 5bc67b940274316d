"""How a function says what it is and what it may do."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from mcp_chassis import prompt, resource, tool
from mcp_chassis.calls.declarations import (
    PromptPolicy,
    ResourcePolicy,
    ToolPolicy,
    policy_of,
)


def work(name: str = "") -> str:
    """Work."""
    return f"did {name}"


def declared(**options: Any) -> ToolPolicy:
    def fresh() -> str:
        return ""

    return policy_of(tool(**options)(fresh), ToolPolicy)


def test_the_function_stays_as_it_is() -> None:
    def note(name: str) -> str:
        return f"note {name}"

    same = resource("notes://{name}", title="A note", mime_type="text/markdown", scopes=["notes:read"])(note)
    assert same is note
    assert same("a") == "note a"
    scopes = frozenset({"notes:read"})
    assert policy_of(same, ResourcePolicy) == ResourcePolicy("notes://{name}", "A note", "text/markdown", scopes)


def test_a_tool_of_which_nothing_is_said_is_taken_to_be_dangerous() -> None:
    policy = declared()
    assert policy.destructive
    assert policy.confirm
    assert policy.open_world
    assert not policy.read_only
    assert not policy.idempotent
    assert 0 < policy.timeout <= 60
    assert 0 < policy.max_concurrency < 100


def test_read_only_is_harmless_and_may_be_repeated() -> None:
    policy = declared(read_only=True)
    assert (policy.destructive, policy.confirm, policy.idempotent) == (False, False, True)


def test_a_harmless_change_needs_no_person_but_may_ask_one() -> None:
    assert not declared(destructive=False).confirm
    assert declared(destructive=False, confirm=True).confirm
    assert declared(read_only=True, confirm=True).confirm


@pytest.mark.parametrize(
    ("options", "what_to_do"),
    [
        ({"read_only": True, "destructive": True}, "keep the one that is true"),
        ({"confirm": False}, "needs confirm=True; if it destroys nothing, say destructive=False"),
        ({"destructive": True, "confirm": False}, "needs confirm=True"),
        ({"timeout": 0}, "must be positive"),
        ({"timeout": -1}, "must be positive"),
        ({"max_concurrency": 0}, "must be positive"),
        ({"calls_per_minute": 0}, "must be positive"),
    ],
    ids=repr,
)
def test_a_contradiction_is_refused_with_what_to_do(options: dict[str, Any], what_to_do: str) -> None:
    with pytest.raises(ValueError, match=what_to_do):
        tool(**options)


@pytest.mark.parametrize("declare", [tool, prompt, lambda **options: resource("a://b", **options)])
def test_one_scope_written_as_text_is_not_taken_for_its_letters(declare: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r'scopes takes a tuple: write scopes=\("notes:read",\)'):
        declare(scopes="notes:read")


@pytest.mark.parametrize("scope", ["", "a b", 'a"', "a\\b", "a\n", "a\x7f", "é", "a\u200b", 7], ids=repr)
@pytest.mark.parametrize("declare", [tool, prompt, lambda **options: resource("a://b", **options)])
def test_a_scope_that_would_break_the_challenge_is_refused(declare: Callable[..., Any], scope: Any) -> None:
    """RFC 6749, section 3.3: it is sent between quotes, among others separated by spaces."""
    with pytest.raises(ValueError, match="cannot be a scope: write printable ASCII without spaces"):
        declare(scopes=("notes:read", scope))


def test_every_character_of_a_scope_token_is_accepted() -> None:
    scope = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\')
    assert declared(scopes=[scope]).scopes == {scope}


def test_a_timeout_is_one_number_however_it_is_written() -> None:
    """Or the lock file would call 30 and 30.0 two different tools."""
    assert repr(declared(timeout=30).timeout) == repr(declared(timeout=30.0).timeout) == "30.0"


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        (ToolPolicy, r"work is listed in TOOLS but not declared: write @tool\(\.\.\.\) above it"),
        (ResourcePolicy, r"work is listed in RESOURCES but not declared: write @resource"),
        (PromptPolicy, r"work is listed in PROMPTS but not declared: write @prompt\(\) above it"),
    ],
)
def test_a_function_without_declaration_is_refused_with_what_to_write(kind: Any, write: str) -> None:
    with pytest.raises(TypeError, match=write):
        policy_of(work, kind)


def test_a_declaration_as_something_else_does_not_count() -> None:
    def fresh() -> str:
        return ""

    with pytest.raises(TypeError, match="fresh is listed in TOOLS"):
        policy_of(prompt(title="A prompt", scopes=["a"])(fresh), ToolPolicy)
    assert policy_of(fresh, PromptPolicy) == PromptPolicy("A prompt", frozenset({"a"}))


def test_a_policy_cannot_be_changed_afterwards() -> None:
    policy = declared(scopes=["admin"])
    with pytest.raises(FrozenInstanceError):
        policy.scopes = frozenset()  # type: ignore[misc]


def test_a_generator_is_refused_by_name_when_it_is_declared() -> None:
    async def follow(name: str = "") -> AsyncIterator[str]:
        yield name

    def each(name: str = "") -> Iterator[str]:
        yield name

    for function in (follow, each):
        with pytest.raises(TypeError, match=rf"{function.__name__} yields its answer: return it"):
            tool(read_only=True)(function)


def test_parameters_that_cannot_be_named_are_refused_when_they_are_declared() -> None:
    def many(*names: str) -> str:
        return ""

    def rest(**names: str) -> str:
        return ""

    def first(name: str, /) -> str:
        return name

    for function in (many, rest, first):
        with pytest.raises(TypeError, match=rf"{function.__name__}: .* cannot be sent by name"):
            tool(read_only=True)(function)
