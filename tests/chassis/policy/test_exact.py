"""The guard accepts what the published schema accepts, and refuses what it refuses, whatever types it is made of."""

# The annotations are made by the tests.
# mypy: disable-error-code="valid-type, misc, arg-type, call-overload, no-untyped-call, untyped-decorator"

import dataclasses
import datetime
import ipaddress
import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend
from pydantic import (
    AfterValidator,
    AliasChoices,
    AnyUrl,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    NaiveDatetime,
    OnErrorOmit,
    SkipValidation,
    StringConstraints,
    WithJsonSchema,
    create_model,
)
from pydantic import ValidationError as Refused
from pydantic.json_schema import SkipJsonSchema
from regress import Regex
from typing_extensions import TypedDict

from mcp_chassis import tool
from mcp_chassis.approval.lint import tool_problems
from mcp_chassis.calls.arguments import Arguments
from mcp_chassis.calls.tools import GuardedTool, guarded_tool

FORMATS = FormatChecker()


@FORMATS.checks("date-time", raises=ValueError)
def is_date_time(text: object) -> bool:
    if not isinstance(text, str):
        return True
    shape = re.fullmatch(r"(?i)\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:[0-5]\d)", text, re.ASCII)
    return shape is not None and bool(datetime.datetime.fromisoformat(text.upper()))


@FORMATS.checks("time", raises=ValueError)
def is_time(text: object) -> bool:
    return is_date_time(f"2000-01-01T{text}") if isinstance(text, str) else True


@FORMATS.checks("ipv6", raises=ValueError)
def is_ipv6(text: object) -> bool:
    return not isinstance(text, str) or ("%" not in text and bool(ipaddress.IPv6Address(text)))


def matches(_: object, pattern: str, text: object, __: object) -> Iterator[ValidationError]:
    """Match as ECMA-262 says, and not as Python does: a JSON Schema has no other regular expressions."""
    if isinstance(text, str) and Regex(pattern, "u").find(text) is None:
        yield ValidationError("the pattern does not match")


Published = extend(Draft202012Validator, {"pattern": matches})


class Mixed(Enum):
    TEXT = "red"
    ONE = 1
    HALF = 0.5
    NOTHING = None


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    """A type that contains itself."""

    value: Annotated[int, Field(ge=0, le=3)]
    next: "Node | None" = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)] = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, Field(max_length=3, alias="nick-name")]


@dataclasses.dataclass
class Pair:
    left: Annotated[int, Field(ge=0, le=9)]
    right: Colour = Colour.RED


@dataclasses.dataclass
class Derived:
    left: Annotated[int, Field(ge=0, le=9)]
    twice: int = dataclasses.field(init=False, default=0)


class Red(BaseModel):
    colour: Literal[Colour.RED]
    depth: Annotated[int, Field(ge=0, le=3)]


class Blue(BaseModel):
    colour: Literal[Colour.BLUE]
    depth: bool


class Row(TypedDict, total=False):
    day: datetime.date
    flag: bool


LEAVES: list[Any] = [
    *(Annotated[int, Field(ge=-2, le=5)], Annotated[int, Field(gt=0, lt=50, multiple_of=7)], bool, type(None)),
    *(Annotated[float, Field(ge=-1, lt=2.5)], Annotated[str, Field(min_length=1, max_length=4)]),
    *(Annotated[str, Field(max_length=9, pattern="^[a-c]+(?:-[0-9.]{1,2})?$")], Annotated[str, AfterValidator(str)]),
    *(Literal["a", "b"], Literal[1, "a", True], Literal[0, None], Mixed, Colour),
    *(Literal[Colour.RED, Colour.BLUE], Literal[Mixed.TEXT, Mixed.ONE, "b"], datetime.date, AwareDatetime),
    *(datetime.datetime, datetime.time, uuid.UUID, ipaddress.IPv4Address, ipaddress.IPv6Address),
    *(Annotated[Decimal, Field(max_digits=5, decimal_places=2)], Annotated[Decimal, Field(ge=0, le=Decimal("9.5"))]),
    *(Annotated[Decimal, Field(gt=0, max_digits=3, decimal_places=0)], Annotated[Colour, Field(description="Hue")]),
]
HASHABLE = [Annotated[int, Field(ge=0, le=3)], Colour, Literal["a", 1], uuid.UUID, datetime.date]
KEYS = [
    Annotated[str, Field(max_length=3)],
    Annotated[str, Field(max_length=3, pattern="^[a-c]*$")],
    Literal["a", "b"],
    Colour,
    Literal[Colour.BLUE],
]
FIXED = [
    *(Node, Pair, Derived, Row, Annotated[Cat | Dog, Field(discriminator="kind")], Cat | Dog, Cat),
    *(Annotated[Red | Blue, Field(discriminator="colour")], Red | Blue),
]


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def model(fields: list[Any]) -> Any:
        names = ["plain", "with_default", "by_alias"][: len(fields)]
        extras: list[Any] = [..., None, Field(alias="a-b")]
        made = {name: (field, extra) for name, field, extra in zip(names, fields, extras, strict=False)}
        return create_model("Made", **made)

    return st.one_of(
        inner.map(lambda one: Annotated[list[one], Field(max_length=3)]),
        inner.map(lambda one: tuple[one, ...]),
        inner.map(lambda one: Sequence[one]),
        st.tuples(inner, inner).map(lambda both: tuple[both]),
        st.tuples(inner, inner).map(lambda both: Union[both]),  # noqa: UP007
        inner.map(lambda one: Optional[one]),  # noqa: UP045
        st.tuples(st.sampled_from(KEYS), inner).map(lambda both: Annotated[dict[both], Field(max_length=2)]),
        st.lists(inner, min_size=1, max_size=3).map(model),
    )


SETS = st.sampled_from(HASHABLE).flatmap(
    lambda one: st.sampled_from([Annotated[set[one], Field(min_length=1, max_length=3)], frozenset[one]])
)
ANNOTATIONS = st.recursive(st.sampled_from([*LEAVES, *FIXED]) | SETS, larger, max_leaves=4)

TEXTS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ["a", "b", "red", "cat", "dog", "1", "1.5", "-0.25", "1e2", "2026-02-30", "2026-02-28", "1700000000"]
    ),
    st.sampled_from(
        ["2026-02-28T12:00:00", "2026-02-28 12:00:00Z", "12:00", "12:00:00", "0123", "1.2.3.4", "1.2.3.04"]
    ),
    st.sampled_from(["2026-02-28T12:00:00+00:60", "2026-02-28T12:00:00+01:59", "12:00:00+00:99", "12:00:00-23:59"]),
    st.sampled_from(["::1", "fe80::1%a", "123e4567e89b42d3a456426614174000", "a\n", "abc-1.", "+1", "１"]),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 60), st.sampled_from([0.5, 1.0, 7.0, -0.0, 1e9, 2.49]), TEXTS
)
JSON = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(TEXTS, one, max_size=2), max_leaves=4
)
FORMATTED: Mapping[str, st.SearchStrategy[str]] = {
    "date": st.dates().map(str),
    "date-time": st.datetimes(timezones=st.just(datetime.UTC)).map(datetime.datetime.isoformat),
    "time": st.times().map(lambda one: f"{one.isoformat()}z"),
    "uuid": st.uuids().map(str),
    "ipv4": st.ip_addresses(v=4).map(str),
    "ipv6": st.ip_addresses(v=6).map(str),
}


def instances(whole: dict[str, Any], schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return JSON near a schema: mostly what it allows, with something else in one place or another."""
    schema = {} if schema is True else schema
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    inner = lambda part: instances(whole, part, depth + 1)  # noqa: E731
    if depth > 5:
        return SCALARS
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of(*map(inner, choices))
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    match schema.get("type"):
        case "object" if "properties" in schema:
            needed, parts = schema.get("required", []), schema["properties"]
            there = {name: inner(part) for name, part in parts.items()}
            full = st.fixed_dictionaries(
                {name: there[name] for name in needed}, optional={n: p for n, p in there.items() if n not in needed}
            )
            extra = st.dictionaries(TEXTS, SCALARS, min_size=1, max_size=1)
            return st.one_of(full, full, st.tuples(full, extra).map(lambda both: both[0] | both[1]))
        case "object":
            names = inner(schema.get("propertyNames", {"type": "string"})) | TEXTS
            return st.dictionaries(
                names.filter(lambda one: isinstance(one, str)), inner(schema["additionalProperties"]), max_size=3
            )
        case "array" if "prefixItems" in schema:
            exact = st.tuples(*map(inner, schema["prefixItems"])).map(list)
            return exact | exact.map(lambda one: one[1:]) | exact.map(lambda one: [*one, 1])
        case "array":
            return st.lists(inner(schema["items"]), max_size=4)
        case "string" if schema.get("format") in FORMATTED:
            return FORMATTED[schema["format"]] | TEXTS
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"]) | TEXTS
        case "integer" | "number":
            return st.integers(-9, 60) | st.floats(-10, 60) | SCALARS
        case "null":
            return st.none() | SCALARS
        case _:
            return SCALARS


def served(annotation: Any) -> GuardedTool:
    def echo(value: Any) -> str:
        """Echo."""
        return ""

    echo.__annotations__["value"] = annotation
    return guarded_tool(tool(read_only=True)(echo))


def is_accepted(guarded: GuardedTool, arguments: dict[str, Any]) -> bool:
    try:
        guarded.tool.fn_metadata.validate_arguments(Arguments(arguments))
    except Refused:
        return False
    return True


@given(data=st.data(), annotation=ANNOTATIONS)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_guard_and_the_published_schema_agree(data: st.DataObject, annotation: Any) -> None:
    compare(data, annotation)


@pytest.mark.parametrize("annotation", [*LEAVES, *FIXED, dict[Literal[Colour.BLUE], int]], ids=repr)
@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_they_agree_about_each_type_alone(data: st.DataObject, annotation: Any) -> None:
    compare(data, annotation)


def compare(data: st.DataObject, annotation: Any) -> None:
    guarded = served(annotation)
    schema = guarded.tool.parameters
    Draft202012Validator.check_schema(schema)
    published = Published(schema, format_checker=FORMATS)
    inner = instances(schema, schema["properties"]["value"])
    for value in data.draw(st.lists(inner | inner | JSON, min_size=8, max_size=8)):
        arguments = json.loads(json.dumps({"value": value}))
        expected = published.is_valid(arguments)
        assert is_accepted(guarded, arguments) == expected, (annotation, schema, value, expected)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)

    name: str


class Named(NamedTuple):
    name: str


class Choices(BaseModel):
    name: str = Field(validation_alias=AliasChoices("a", "b"))


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)

    name: str = Field(alias="a")


class Described(BaseModel):
    model_config = ConfigDict(json_schema_extra={"properties": {}})

    name: str


class Dropped(BaseModel):
    model_config = ConfigDict(json_schema_extra=lambda schema: schema.clear())

    name: str


class Rewritten(BaseModel):
    name: str

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
        return {**handler(core), "properties": {}}


@dataclasses.dataclass
class DescribedData:
    __pydantic_config__ = ConfigDict(json_schema_extra={"required": []})

    name: str


class DescribedRow(TypedDict):
    __pydantic_config__ = ConfigDict(json_schema_extra={"required": []})

    name: str


class Hidden(BaseModel):
    name: SkipJsonSchema[int] = 3


REMEDY = "json_schema_extra may hold remarks only"


@pytest.mark.parametrize(
    ("annotation", "remedy"),
    [
        (Open, "declare what may be sent"),
        (list[Open], "declare what may be sent"),
        (Choices, "one name each"),
        (Stripped, "declare"),
        (Named, "take a model"),
        (bytes, "take a str"),
        (complex, "take a str"),
        (Path, "take a str"),
        (AnyUrl, "take a str"),
        (Json, "take a str"),
        (Callable[[], int], "a type of JSON"),
        (SimpleNamespace, "a type of JSON"),
        (datetime.timedelta, "a number of seconds"),
        (NaiveDatetime, "AwareDatetime"),
        (Annotated[datetime.date, Field(ge=datetime.date(2026, 1, 1))], "in the tool"),
        (Annotated[int, BeforeValidator(int)], "AfterValidator"),
        (Iterable[int], "take a list"),
        (dict[int, int], "let its keys be str"),
        (dict[datetime.date, int], "let its keys be str"),
        (set[Cat], "take a list"),
        (Annotated[Decimal, Field(max_digits=5)], "decimal_places"),
        (Annotated[Decimal, Field(max_digits=5, decimal_places=2, le=3)], "decimal_places"),
        (Annotated[float, Field(multiple_of=0.1)], "in the tool"),
        (Annotated[str, StringConstraints(strip_whitespace=True)], "AfterValidator"),
        (ByName, "one name each"),
        (list[OnErrorOmit[int]], "no more"),
        *((one, REMEDY) for one in (Described, Dropped, Rewritten, DescribedData, DescribedRow, Hidden)),
        (Annotated[str, WithJsonSchema({"type": "string", "maxLength": 5})], REMEDY),
        (Annotated[set[int], WithJsonSchema({"type": "array", "maxItems": 5})], REMEDY),
        (Annotated[str, Field(json_schema_extra={"maxLength": 5})], REMEDY),
        (Annotated[str, Field(json_schema_extra=lambda schema: schema.update(maxLength=5))], REMEDY),
        (int | SkipJsonSchema[None], REMEDY),
        (list[SkipValidation[int]], REMEDY),
        (Annotated[str, SkipValidation, Field(max_length=3)], REMEDY),
        (Annotated[Decimal, Field(ge=Decimal("0.1000000000000000055"), le=1)], "decimal_places"),
        (Annotated[Decimal, Field(ge=0, le=Decimal(2**53 + 1))], "decimal_places"),
        *(
            (Annotated[str, Field(pattern=p)], r"\[0-9\]")
            for p in (
                *(r"^\d$", "^a.$", "(?i)a", r"[\w-]", r"\bx", "[a&&b]", "[a||b]"),
                *(
                    r"\p{L}",
                    r"[\p{L}]",
                    r"\pL",
                    r"\P{L}",
                    "[]a]",
                    "[^]a]",
                    "[a]b]",
                    "a]",
                    "a}",
                    r"\a",
                    r"\U0001F600",
                    r"\u{41}",
                ),
                *(
                    r"[\u{41}]",
                    r"\x{41}",
                    r"\<a\>",
                    "a++",
                    "a*+",
                    "a?+",
                    "a{2}+",
                    "a{2}{3}",
                    "a**",
                    "a+*",
                    r"\-",
                    r"\_",
                    r"[\@]",
                    r"\ ",
                ),
            )
        ),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", repr(value)),  # the same in every process
)
def test_a_type_that_json_schema_cannot_say_is_refused_by_name_with_the_remedy(annotation: Any, remedy: str) -> None:
    with pytest.raises(TypeError, match=f"the tool echo .*({remedy})"):
        served(annotation)


@given(
    pattern=st.lists(
        st.sampled_from(
            [
                *"ab-_/@, 😀é]}[^$|*+?",
                "[a-c]",
                "[^a]",
                r"[\]a]",
                "[a^-]",
                "(?:a|b)",
                "(ab)",
                r"\n",
                r"\t",
                r"\v",
                r"\f",
                r"\r",
            ]
            + [
                r"\.",
                r"\[",
                r"\}",
                r"\/",
                r"[\-a]",
                r"\x41",
                r"\u00e9",
                "{2}",
                "{0,3}",
                "{1,}",
                "*?",
                "}?",
                "[]",
                "[^]",
            ]
        ),
        min_size=1,
        max_size=5,
    ).map("".join),
    texts=st.lists(st.text("abcA-_/@]}{ \n\t.é😀", max_size=4), min_size=5, max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_every_pattern_that_is_served_means_the_same_everywhere(pattern: str, texts: list[str]) -> None:
    """As ECMA-262 reads it with and without its flag u, and Python, apart from a line break at its end."""
    try:
        guarded = served(Annotated[str, Field(pattern=pattern)])
    except TypeError:
        return
    unicode, python = Regex(pattern, "u"), re.compile(pattern)
    for text in texts:
        accepted = is_accepted(guarded, {"value": text})
        assert (unicode.find(text) is not None) == accepted, (pattern, text)
        assert text.endswith("\n") or (python.search(text) is not None) == accepted, (pattern, text)


def test_common_patterns_are_served() -> None:
    for pattern in (
        *("^[A-Z]{2}-[0-9]{1,6}$", r"^[^\n]*$", r"^v[0-9]+(?:\.[0-9]+){2}$", "^(?:red|blue)$"),
        *(
            "^[a-z0-9._%+-]+@[a-z]+$",
            r"^[\]\[\-]+$",
            "^[À-ÿ' -]+$",
            r"^\$[0-9]+?$",
            "^[$&+,/:;=?@#]*$",
            r"^\+[0-9]{3,}$",
            "^😀+$",
            "",
            "a{0}b",
        ),
    ):
        assert served(Annotated[str, Field(pattern=pattern)])


def test_remarks_about_a_parameter_are_published() -> None:
    class Remarked(BaseModel):
        model_config = ConfigDict(json_schema_extra={"examples": [{"size": 3}], "title": "Box"})

        size: Annotated[int, Field(json_schema_extra={"examples": [3], "x-unit": "cm"}, deprecated=True)]

    guarded = served(Remarked)
    published = guarded.tool.parameters["$defs"]["Remarked"]
    assert published["examples"] == [{"size": 3}]
    assert published["properties"]["size"]["x-unit"] == "cm"
    assert is_accepted(guarded, {"value": {"size": 3}})


def test_a_parameter_without_a_type_is_refused() -> None:
    def untyped(value) -> str:  # type: ignore[no-untyped-def]
        """Take anything."""
        return str(value)

    with pytest.raises(TypeError, match="annotate the type"):
        guarded_tool(tool(read_only=True)(untyped))


@pytest.mark.parametrize(("kind", "begin"), [(AwareDatetime, "2026-02-28T12:00:00"), (datetime.time, "12:00:00")])
def test_an_offset_of_sixty_minutes_is_refused(kind: Any, begin: str) -> None:
    guarded = served(kind)
    assert is_accepted(guarded, {"value": f"{begin}+05:59"})
    for offset in ("+00:60", "-01:99", "+24:00"):
        assert not is_accepted(guarded, {"value": begin + offset}), offset


@pytest.mark.parametrize(("kind", "begin"), [(AwareDatetime, "2026-02-28T12:00:00."), (datetime.time, "12:00:00.")])
def test_a_flood_of_digits_of_a_second_is_refused(kind: Any, begin: str) -> None:
    guarded = served(kind)
    assert tool_problems(guarded) == []
    assert is_accepted(guarded, {"value": f"{begin}{'1' * 9}Z"})
    assert not is_accepted(guarded, {"value": f"{begin}{'1' * 900_000}Z"})


def test_a_choice_among_members_of_an_enum_reaches_the_tool_as_the_member() -> None:
    one = served(Annotated[Red | Blue, Field(discriminator="colour")])
    got = one.tool.fn_metadata.validate_arguments({"value": {"colour": "blue", "depth": True}})
    assert got["value"] == Blue(colour=Colour.BLUE, depth=True)
    assert served(Literal[Colour.RED]).tool.fn_metadata.validate_arguments({"value": "red"}) == {"value": Colour.RED}


def test_any_inside_of_a_dictionary_is_refused_like_any_alone() -> None:
    for annotation in (
        Any,
        dict[str, Any],
        list[Any],
        dict[Annotated[str, Field(max_length=3, pattern="^a$")], Any],
        dict,
    ):
        assert any("instead of Any" in problem for problem in tool_problems(served(annotation))), annotation


def test_every_remedy_for_a_decimal_can_be_locked() -> None:
    for rules in ({"max_digits": 8, "decimal_places": 2, "ge": 0}, {"ge": 0, "le": 100}):
        assert tool_problems(served(Annotated[Decimal, Field(**rules)])) == []


def test_an_alias_is_the_published_name_of_a_parameter() -> None:
    @tool(read_only=True)
    def mail(sender: Annotated[str, Field(alias="from", max_length=9)], schema: bool = False) -> str:
        """Mail."""
        return sender

    guarded = guarded_tool(mail)
    assert list(guarded.tool.parameters["properties"]) == ["from", "schema"]
    assert guarded.tool.fn_metadata.validate_arguments({"from": "me"}) == {"sender": "me", "schema": False}
    assert not is_accepted(guarded, {"sender": "me"})
