"""Strict tool arguments: no unknown members, no coercion, and refusals without values."""

import datetime
from enum import Enum
from typing import Annotated, Any

import pytest
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field, ValidationError

from mcp_chassis import tool
from mcp_chassis.calls.arguments import Arguments, InvalidResult, rejection
from mcp_chassis.calls.tools import guarded_tool
from mcp_chassis.sinks import InvalidInput


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    label: str = ""


@tool(read_only=True)
def everything(
    *,
    number: int = 0,
    ratio: float = 0.0,
    flag: bool = False,
    text: Annotated[str, Field(max_length=5)] = "",
    day: datetime.date | None = None,
    colour: Colour = Colour.RED,
    point: Point | None = None,
    points: list[Point] | None = None,
) -> str:
    """A tool with an argument of every kind."""
    return ""


TOOL = guarded_tool(everything).tool


def read(arguments: dict[str, Any]) -> dict[str, Any]:
    return TOOL.fn_metadata.validate_arguments(arguments)


def refused(arguments: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as error:
        read(arguments)
    return rejection(error.value)


def test_a_large_float_stays_as_it_was_sent() -> None:
    """As an integer, 1e308 has 309 digits: 20,000 of them kept everyone for half a second."""
    arguments = Arguments({"ratio": [1e308, 1e23, 2.0**53, 2.0**53 - 1]})
    assert arguments.document == b'{"ratio":[1e+308,1e+23,9007199254740992.0,9007199254740991]}'
    assert read({"ratio": 1e308})["ratio"] == 1e308


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("number", 7, 7),
        ("number", 7.0, 7),
        ("ratio", 7, 7.0),
        ("flag", True, True),
        ("text", "[1]", "[1]"),
        ("text", "null", "null"),
        ("day", "2026-11-22", datetime.date(2026, 11, 22)),
        ("colour", "red", Colour.RED),
        ("point", {"x": 1}, Point(x=1)),
        ("points", [{"x": 1}], [Point(x=1)]),
    ],
)
def test_arguments_of_the_published_type_are_taken(name: str, given: Any, taken: Any) -> None:
    assert read({name: given})[name] == taken


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("number", "7"),
        ("number", 7.5),
        ("number", True),
        ("ratio", "0.5"),
        ("flag", "yes"),
        ("flag", 1),
        ("text", 7),
        ("text", None),
        ("text", "longer"),
        ("day", 20_000),
        ("colour", "blue"),
        ("point", '{"x": 1}'),
        ("point", {"x": 1, "y": 2}),
        ("points", [{"x": "1"}]),
        ("points", {"x": 1}),
        ("surprise", 1),
    ],
)
def test_everything_else_is_refused_by_name_and_without_the_value(name: str, given: Any) -> None:
    reason = refused({name: given})
    assert reason.startswith(name)
    assert "http" not in reason
    assert "longer" not in reason
    assert "input" not in reason.lower() or "input should" in reason.lower() or "not permitted" in reason


def test_undeclared_members_are_refused_at_every_depth() -> None:
    surprising = {"x": 1, "surprise": 2}
    assert "surprise" in refused({"surprise": 1})
    assert "point.surprise" in refused({"point": surprising})
    assert "points.0.surprise" in refused({"points": [surprising]})


def test_the_published_schema_says_so() -> None:
    assert TOOL.parameters["additionalProperties"] is False
    assert TOOL.parameters["$defs"]["Point"]["additionalProperties"] is False


def test_an_object_of_any_members_stays_open() -> None:
    @tool(read_only=True)
    def tags(values: dict[str, int]) -> str:
        """Tag."""
        return ""

    tagging = guarded_tool(tags).tool
    assert tagging.parameters["properties"]["values"]["additionalProperties"] == {"type": "integer"}
    tagged = {"a": 1}
    assert tagging.fn_metadata.validate_arguments({"values": tagged}) == {"values": tagged}


def test_half_a_surrogate_pair_is_an_invalid_input() -> None:
    with pytest.raises(InvalidInput, match="not valid Unicode"):
        read({"text": "\ud800"})


def test_more_broken_rules_than_can_be_listed_are_counted() -> None:
    assert refused({str(number): 1 for number in range(500)}).count("not permitted") == 10
    assert refused({str(number): 1 for number in range(501)}) == "501 values break their rules, too many to list"


class Word(str):
    """Text with something more."""


@tool(read_only=True)
def short() -> Annotated[str, Field(max_length=3)]:
    """Return a short text."""
    return ""


@pytest.mark.parametrize(
    "result", ["", "a\u2028\U0001f600", "x" * 100_000, Word("word"), 7, None, ["a"], {"result": "a"}]
)
@pytest.mark.parametrize("function", [everything, short])
def test_text_is_converted_as_by_the_sdk(function: Any, result: object) -> None:
    """Plain text has a shorter way. What is not what the function declares has none."""
    metadata = guarded_tool(function).tool.fn_metadata
    try:
        expected = FuncMetadata.convert_result(metadata, result)
    except ValidationError:
        with pytest.raises(InvalidResult):
            metadata.convert_result(result)
    else:
        assert metadata.convert_result(result) == expected


@pytest.mark.parametrize(("number", "blocks"), [(1000, 1000), (1001, 1)])
def test_a_long_list_is_one_text(number: int, blocks: int) -> None:
    @tool(read_only=True)
    def lines() -> list[str]:
        """Return lines."""
        return []

    result = guarded_tool(lines).tool.fn_metadata.convert_result(["line"] * number)
    assert isinstance(result, CallToolResult)
    assert result.structured_content == {"result": ["line"] * number}
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    assert len(result.content) == len(texts) == blocks
    assert "\n".join(texts) == "\n".join(["line"] * number)


def test_a_name_that_the_caller_chose_is_short_and_on_one_line() -> None:
    reason = refused({"a" * 1000: 1, "line\nforged": 2, "\u202eevil": 3})
    assert "a" * 65 not in reason
    assert reason.isprintable()
    assert r"a\u3164\ufe0fb" in refused({"a\u3164\ufe0fb": 1})


def test_of_many_problems_ten_are_listed() -> None:
    assert len(refused({f"name{number}": 1 for number in range(50)}).split("; ")) == 10


def test_the_reason_of_a_custom_check_reaches_the_caller() -> None:
    class Careful(BaseModel):
        name: Annotated[str, Field(min_length=1)]

        def model_post_init(self, _: object) -> None:
            raise InvalidInput("the name is on a list")

    with pytest.raises(ValidationError) as error:
        Careful(name="a")
    assert rejection(error.value) == "arguments: the name is on a list"
