"""What must hold for every definition and every argument, not only for the listed ones."""

import copy
import random
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.types import CallToolResult, Tool
from pydantic import Field

from mcp_chassis import tool
from mcp_chassis.approval.lock import canonical, definition, digest
from mcp_chassis.auth.principal import STDIO, current_principal
from mcp_chassis.calls.tools import guarded_tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

# --- the lock ---


@tool(title="Everything", scopes=("b", "a"), calls_per_minute=5, idempotent=True)
async def everything(
    path: Annotated[str, Field(max_length=100, description="Which")],
    lines: Annotated[list[Annotated[int, Field(ge=0, le=9)]], Field(max_length=3)],
    mode: Literal["r", "w"] = "r",
) -> dict[str, list[int]]:
    """Use every member that a definition has."""
    return {path + mode: lines}


DEFINITION = definition(guarded_tool(everything))
Place = tuple[str | int, ...]


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Return every place inside a JSON value."""
    members: Any = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for name, member in members:
        yield (*here, name)
        yield from places(member, (*here, name))


PLACES = list(places(DEFINITION))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def parent_of(document: Any, place: Place) -> Any:
    """Return what holds the last part of a place."""
    for part in place[:-1]:
        document = document[part]
    return document


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same, where 1 is not true and not 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and str(one) == str(other)  # 0.0 is not -0.0


async def listing() -> list[Tool]:
    """List the tools as who may call everything."""
    current_principal.set(STDIO)
    return await GuardedServer("lock", tools=(everything,), events=EventLog()).list_tools()


def test_the_definition_holds_all_that_a_client_is_shown() -> None:
    """A member that the protocol gets one day must not stay outside of the lock."""
    (listed,) = anyio.run(listing)
    shown = listed.model_dump(by_alias=True, mode="json", exclude_none=True)
    locked = {name: value for name, value in DEFINITION.items() if name != "policy"}
    assert shown == locked


@given(st.sampled_from(PLACES), JSON_VALUES)
def test_every_other_value_at_any_place_is_another_digest(place: Place, value: Any) -> None:
    changed = copy.deepcopy(DEFINITION)
    holder = parent_of(changed, place)
    if same(holder[place[-1]], value):
        return
    holder[place[-1]] = value
    assert digest(changed) != digest(DEFINITION)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_every_member_that_goes_is_another_digest(place: Place) -> None:
    changed = copy.deepcopy(DEFINITION)
    del parent_of(changed, place)[place[-1]]
    assert digest(changed) != digest(DEFINITION)


@given(st.sampled_from([(), *PLACES]), st.text(), JSON_VALUES)
def test_every_member_that_comes_is_another_digest(place: Place, name: str, value: Any) -> None:
    changed = copy.deepcopy(DEFINITION)
    holder = parent_of(changed, (*place, ""))
    if not isinstance(holder, dict) or name in holder:
        return
    holder[name] = value
    assert digest(changed) != digest(DEFINITION)


def reordered(value: Any, order: random.Random) -> Any:
    """Return the same JSON value with the members of every object in another order."""
    if isinstance(value, list):
        return [reordered(item, order) for item in value]
    if not isinstance(value, dict):
        return value
    names = list(value)
    order.shuffle(names)
    return {name: reordered(value[name], order) for name in names}


@given(st.randoms(use_true_random=False))
def test_another_order_of_members_is_the_same_digest(order: random.Random) -> None:
    assert digest(reordered(DEFINITION, order)) == digest(DEFINITION)


@given(JSON_VALUES, JSON_VALUES)
def test_two_values_have_one_canonical_form_only_if_they_are_the_same(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == same(one, other)


# --- strict arguments, against a plain check of the types ---


@tool(read_only=True)
async def take_int(value: int) -> str:
    """Take an integer."""
    return repr(value)


@tool(read_only=True)
async def take_float(value: float) -> str:
    """Take a number."""
    return repr(value)


@tool(read_only=True)
async def take_bool(value: bool) -> str:
    """Take a truth value."""
    return repr(value)


@tool(read_only=True)
async def take_text(value: str) -> str:
    """Take a text."""
    return repr(value)


@tool(read_only=True)
async def take_maybe(value: int | None) -> str:
    """Take an integer or nothing."""
    return repr(value)


@tool(read_only=True)
async def take_list(value: list[int]) -> str:
    """Take integers."""
    return repr(value)


@tool(read_only=True)
async def take_dict(value: dict[str, bool]) -> str:
    """Take switches."""
    return repr(value)


@tool(read_only=True)
async def take_choice(value: Literal["a", "b"]) -> str:
    """Take one of two."""
    return repr(value)


def is_int(value: Any) -> bool:
    """Whether this is an integer in JSON Schema, which 7.0 is too. A float that may stand for several is refused."""
    return type(value) is int or (type(value) is float and value.is_integer() and abs(value) < 2**53)


def whole(value: Any) -> Any:
    """Return what a tool gets of integers."""
    if type(value) is list:
        return [whole(item) for item in value]
    return int(value) if type(value) is float else value


RULES: dict[str, Any] = {
    "take_int": is_int,
    "take_float": lambda v: type(v) in (int, float),
    "take_bool": lambda v: type(v) is bool,
    "take_text": lambda v: type(v) is str,
    "take_maybe": lambda v: v is None or is_int(v),
    "take_list": lambda v: type(v) is list and all(map(is_int, v)),
    "take_dict": lambda v: type(v) is dict and all(type(item) is bool for item in v.values()),
    "take_choice": lambda v: v in ("a", "b") and type(v) is str,
}
TAKERS = (take_int, take_float, take_bool, take_text, take_maybe, take_list, take_dict, take_choice)
NEAR = st.sampled_from(
    ["7", "true", "yes", "null", "1e3", "[1]", '{"a": true}', "a", "A", "a ", "", 0, 1, 1.0, 7.5, True, False, None]
)
FITTING = st.lists(st.integers()) | st.dictionaries(st.text(max_size=3), st.booleans(), max_size=3)
# What a JSON document from a client can hold: half of a surrogate pair is refused before, and tested elsewhere.
SENT = NEAR | FITTING | JSON_VALUES


@pytest.fixture(scope="module")
def strict_server() -> GuardedServer:
    """A server of tools that take one value each."""
    return GuardedServer("strict", tools=TAKERS, events=EventLog())


async def call(server: GuardedServer, name: str, arguments: dict[str, Any]) -> CallToolResult:
    """Call a tool as who may call everything."""
    current_principal.set(STDIO)
    result = await server.call_tool(name, arguments)
    assert isinstance(result, CallToolResult)
    return result


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=SENT)
def test_a_value_is_taken_exactly_if_it_is_of_the_type(strict_server: GuardedServer, name: str, value: Any) -> None:
    result = anyio.run(call, strict_server, name, {"value": value})
    assert (not result.is_error) is bool(RULES[name](value)), value
    if not result.is_error and name != "take_float":
        assert result.structured_content == {"result": repr(whole(value))}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(), value=SENT)
def test_an_argument_too_many_is_refused(strict_server: GuardedServer, name: str, value: Any) -> None:
    if name == "value":
        return
    result = anyio.run(call, strict_server, "take_int", {"value": 7, name: value})
    assert result.is_error
