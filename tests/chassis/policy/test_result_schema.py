"""Structured results are what the published output schema says, as the official clients check it."""

import datetime
import ipaddress
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import jsonschema
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import CallToolResult
from pydantic import AnyUrl, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, computed_field
from typing_extensions import TypedDict

from mcp_chassis import tool
from mcp_chassis.calls.arguments import InvalidResult
from mcp_chassis.calls.result_schema import result_check
from mcp_chassis.calls.tools import guarded_tool


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    kind: Literal["leaf"] = "leaf"
    size: Annotated[int, Field(ge=0, le=9)]


class Branch(BaseModel):
    kind: Literal["branch"] = "branch"
    parts: list["Branch | Leaf"] = []


class Row(TypedDict):
    name: Annotated[str, Field(max_length=5)]
    at: AwareDatetime


@dataclass
class Point:
    x: float
    y: float


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    value: int | None


TYPES: list[Any] = [
    Leaf,
    Branch,
    Row,
    Closed,
    list[Row],
    dict[str, int],
    dict[Annotated[str, Field(min_length=2)], list[str]],
    tuple[int, str],
    tuple[int, ...],
    set[str],
    Color,
    Literal[1, "one", None],
    int | str | None,
    Annotated[Leaf | Branch, Field(discriminator="kind")],
    float,
    bool,
    Decimal,
    uuid.UUID,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    AnyUrl,
    bytes,
    Any,
    Point,
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.sampled_from([0.5, 2.0, 7.0, -1.5])
    | st.sampled_from(
        [
            "",
            "a",
            "leaf",
            "branch",
            "red",
            "one",
            "2026-07-28T12:00:00Z",
            "2026-07-28T12:00:00",
            "2026-07-28",
            "12:00:00Z",
        ]
        + ["1.5", "P1D", "10.0.0.1", "::1", "https://a.example/", "6f1c2f0e-0000-4000-8000-000000000000", "toolong"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "size", "parts", "name", "at", "value", "x", "y", "ab"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


def accepts(check: Callable[[Any], None], value: Any) -> bool:
    try:
        check(value)
    except InvalidResult:
        return False
    return True


CHECKS = {str(kind): (TypeAdapter(kind).json_schema(), kind) for kind in TYPES}
COMPILED = {name: result_check(schema) for name, (schema, _) in CHECKS.items()}


def formats() -> jsonschema.FormatChecker:
    """What a client with formats on accepts."""
    checker = jsonschema.FormatChecker(formats=())
    for name, read in {
        "date-time": lambda text: datetime.datetime.fromisoformat(text).utcoffset() is not None and "T" in text,
        "date": lambda text: len(text) == 10 and datetime.date.fromisoformat(text),
        "time": lambda text: datetime.time.fromisoformat(text).tzinfo is not None and ":" in text,
        "uuid": lambda text: len(text) == 36 and uuid.UUID(text),
        "ipv4": ipaddress.IPv4Address,
        "ipv6": ipaddress.IPv6Address,
        "duration": lambda text: text == "P1D",
        "uri": lambda text: text.startswith("https:"),
    }.items():
        checker.checks(name, ValueError)(lambda value, read=read: not isinstance(value, str) or bool(read(value)))
    return checker


REFERENCE = {
    name: jsonschema.Draft202012Validator(schema, format_checker=formats()) for name, (schema, _) in CHECKS.items()
}


@pytest.mark.parametrize("name", CHECKS)
@given(JSON)
def test_a_reference_validator_agrees(name: str, value: Any) -> None:
    assert accepts(COMPILED[name], value) == REFERENCE[name].is_valid(value), (CHECKS[name][0], value)


MIXED = {
    "type": "object",
    "properties": {"at": {"type": "string", "format": "date-time"}, "n": {"type": ["integer", "null"]}},
    "required": ["at"],
    "not": {"required": ["secret"]},
}


def test_a_keyword_that_pydantic_does_not_write_is_checked_too() -> None:
    check = result_check(MIXED)
    check({"at": "2026-07-28T12:00:00Z", "n": None})
    for wrong in ({}, {"at": "2026-07-28T12:00:00"}, {"at": "2026-07-28T12:00:00Z", "secret": 1}, {"at": 1}):
        assert not accepts(check, wrong), wrong


class Written(BaseModel):
    model_config = ConfigDict(ser_json_timedelta="float")

    inner: int = Field(serialization_alias="outer")
    long: datetime.timedelta

    @computed_field
    def twice(self) -> int:
        return 2 * self.inner


def test_what_a_model_writes_under_other_names_and_types_is_what_is_published() -> None:
    @tool(read_only=True)
    def measure() -> Written:
        """Measure."""
        return Written(inner=1, long=datetime.timedelta(seconds=1.5))

    guarded = guarded_tool(measure)
    result = guarded.tool.fn_metadata.convert_result(measure())
    assert isinstance(result, CallToolResult)
    assert result.structured_content == {"outer": 1, "long": 1.5, "twice": 2}
    guarded.check_result(result.structured_content)
    assert jsonschema.Draft202012Validator(guarded.tool.output_schema or False).is_valid(result.structured_content)
    assert not accepts(guarded.check_result, {"inner": 1, "long": "PT1.5S"})


@pytest.mark.parametrize("pattern", [r"^\p{L}+$", r"^\u{41}$", r"\pL"])
def test_a_result_with_a_pattern_that_no_client_reads_is_refused_at_the_start(pattern: str) -> None:
    """Else every call would run, and end as a crash."""

    class Named(BaseModel):
        name: Annotated[str, Field(pattern=pattern)]

    @tool(read_only=True)
    def name() -> Named:
        """Name."""
        return Named(name="a")

    with pytest.raises(TypeError, match=r"the tool name cannot be served: the result: .* is not a 'regex'"):
        guarded_tool(name)


def test_the_message_says_where_and_not_what() -> None:
    said = r"^result.0.at: Input should be a valid date-time with an offset, such as Z$"
    with pytest.raises(InvalidResult, match=said):
        result_check(Rows.model_json_schema())({"result": [{"name": "a", "at": "hunter2"}]})


class Rows(BaseModel):
    result: list[Row]


@pytest.mark.parametrize("kind", [float, int])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_refused(number: float, kind: type[float]) -> None:
    assert not accepts(result_check(TypeAdapter(kind).json_schema()), number)


def test_it_is_made_once_for_a_tool_and_costs_less_than_the_encoding_of_the_result() -> None:
    @tool(read_only=True)
    def rows() -> list[Row]:
        """Return rows."""
        return []

    guarded = guarded_tool(rows)
    now = datetime.datetime.now(datetime.UTC).isoformat()
    structure = {"result": [{"name": "a", "at": now}] * 1000}
    slow = jsonschema.Draft202012Validator(guarded.tool.output_schema or {})
    assert seconds(lambda: guarded.check_result(structure)) < seconds(lambda: slow.is_valid(structure)) / 3
    assert pydantic_core.to_json(structure)


def seconds(work: Callable[[], Any]) -> float:
    least = 9.0
    for _ in range(3):
        start = time.process_time()
        work()
        least = min(least, time.process_time() - start)
    return least
