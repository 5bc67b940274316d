"""The attacks reach a tool only with arguments that are valid: every value made for a schema matches it."""

import json
import re
from datetime import date, datetime, time
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from pydantic_core import SchemaValidator

from mcp_chassis.calls.exact import exact
from mcp_chassis.testing.attacks.samples import Name, Place, Sample, put


class Folder(BaseModel):
    """Holds folders."""

    name: str
    inside: list["Folder"]
    parent: "Folder | None" = None
    by_name: dict[str, "Folder"] = {}


class Negation(BaseModel):
    """Ends only where the other alternative is taken."""

    of: "Negation | Annotated[str, Field(max_length=5)]"


class Circle(BaseModel):
    """One of several, by its kind."""

    kind: Literal["circle"]
    radius: Annotated[float, Field(gt=0)]


class Square(BaseModel):
    """One of several, by its kind."""

    kind: Literal["square"]
    side: Annotated[int, Field(ge=2, multiple_of=2)]


TYPES: dict[str, Any] = {
    "recursion in lists, members and options": Folder,
    "recursion that an alternative ends": Negation,
    "any of": int | list[int] | None,
    "one of, by a member": Annotated[Circle | Square, Field(discriminator="kind")],
    "const": Literal["only"],
    "enum": Literal["one", "two", "three", "four"],
    "enum of several types": Literal["one", 2, None],
    "multiple of": Annotated[int, Field(multiple_of=7, gt=7)],
    "multiple of, below nought": Annotated[int, Field(multiple_of=7, lt=-1000)],
    "between nought and one": Annotated[float, Field(gt=0, lt=1)],
    "nothing but nought": Annotated[int, Field(gt=-1, lt=1)],
    "below nought": Annotated[int, Field(le=-5)],
    "large": Annotated[int, Field(ge=2**62)],
    "tiny": Annotated[float, Field(gt=0, lt=1e-9)],
    "pattern": Annotated[str, Field(pattern=r"^[A-Z]{3}-[0-9]{4}(?:/[a-f]+)?$")],
    "pattern and lengths": Annotated[str, Field(pattern=r"^[a-z]+(?:-[a-z]+)+$", min_length=5, max_length=9)],
    "pattern of digits": Annotated[str, Field(pattern=r"^\+[0-9]{8,15}$")],
    "long": Annotated[str, Field(min_length=500)],
    "short": Annotated[str, Field(max_length=2)],
    "empty": Annotated[str, Field(max_length=0)],
    "nested lists": list[list[list[Annotated[int, Field(ge=3)]]]],
    "at least so many": Annotated[list[str], Field(min_length=4)],
    "no items": Annotated[list[str], Field(max_length=0)],
    "pair": tuple[int, str],
    "set": Annotated[set[str], Field(min_length=3)],
    "set of numbers": Annotated[set[Annotated[int, Field(ge=-3, le=0)]], Field(min_length=4)],
    "set of choices": Annotated[frozenset[Literal["a", "b"]], Field(min_length=2)],
    "members": dict[str, int],
    "so many members": Annotated[dict[str, list[int]], Field(min_length=3)],
    "no members": Annotated[dict[str, int], Field(max_length=0)],
    "names with a pattern": dict[Annotated[str, Field(pattern="^[a-z]{2}_[A-Z]{2}$")], int],
    "names with a length": dict[Annotated[str, Field(max_length=2)], int],
    "members of any kind": dict[str, Any],
    "anything": Any,
    "flag": bool,
    "nothing": None,
}
TYPES |= {one.__name__: one for one in (date, datetime, time, UUID, IPv4Address, IPv6Address)}
TYPES["money"] = Annotated[Decimal, Field(max_digits=8, decimal_places=2, gt=0)]


def example_of(kind: Any, turn: int = 0) -> tuple[Sample, SchemaValidator]:
    """Return a sample of arguments whose member `value` has the type, and what judges them."""

    class Arguments(BaseModel):
        value: kind

    published, validator = exact(Arguments)
    return Sample(published, turn), validator


def judge(sample: Sample, adapter: SchemaValidator) -> None:
    """Hold a sample to the rules that the guard holds callers to."""
    adapter.validate_json(json.dumps(sample.value), strict=True, extra="forbid")
    assert sample.unguessed == []


@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("name", TYPES)
def test_what_is_made_is_valid(name: str, turn: int) -> None:
    judge(*example_of(TYPES[name], turn))


@given(st.integers(-1000, 1000), st.integers(0, 60), st.sampled_from([None, 1, 2, 7, 30]), st.booleans(), st.booleans())
def test_whole_numbers_keep_to_their_bounds(low: int, width: int, step: int | None, above: bool, below: bool) -> None:
    high = low + width
    bounds: dict[str, Any] = {"gt" if above else "ge": low, "lt" if below else "le": high, "multiple_of": step}
    allowed = range(low + above, high + 1 - below)
    assume(any(number % (step or 1) == 0 for number in allowed))
    judge(*example_of(Annotated[int, Field(**bounds)]))


@given(st.decimals(-100, 100, places=2), st.sampled_from(["0.01", "0.1", "0.25", "3"]), st.integers(1, 5))
def test_fractions_keep_to_their_bounds(low: Decimal, step: str, steps: int) -> None:
    high = float(low + Decimal(step) * steps)
    judge(*example_of(Annotated[float, Field(gt=float(low), le=high)]))


def test_every_place_can_be_changed_also_in_lists_and_as_a_name() -> None:
    sample, _ = example_of(dict[str, list[Circle]])
    names = [str(place) for place in sample.places]
    assert names == ["value.sample[0].kind", "value.sample[0].radius", "value.<name sample>"]
    assert isinstance(sample.places[-1].path[-1], Name)
    for place in sample.places:
        changed = put(sample.value, place.path, "<other>")
        assert "<other>" in json.dumps(changed)
        assert "<other>" not in json.dumps(sample.value), "the sample itself stays as it was"
        assert sample.at(place) in ("circle", 1, "sample")


def test_turns_take_every_alternative() -> None:
    kinds = {type(example_of(int | str | list[bool], turn)[0].value["value"]) for turn in range(3)}
    assert kinds == {int, str, list}


def test_an_example_goes_before_everything_else() -> None:
    sample, _ = example_of(Annotated[str, Field(pattern="^[ÄÖÜ][0-9]$", examples=["Ä1"])])
    assert sample.value == {"value": "Ä1"}


def test_a_text_that_cannot_be_found_is_named_and_not_passed_over() -> None:
    sample, _ = example_of(Annotated[str, Field(pattern="^[a-z]{8}$", max_length=3)])
    assert sample.unguessed == ["value"]


@pytest.mark.parametrize(
    ("schema", "text", "fits"),
    [
        ({"type": "string"}, "any", True),
        ({"type": "string", "maxLength": 2}, "any", False),
        ({"type": "string", "pattern": "^a"}, "any", True),
        ({"type": "string", "pattern": "^b"}, "any", False),
        ({"type": "string", "format": "date"}, "any", False),
        ({"type": "string", "format": "uri"}, "any", True),
        ({"type": "string", "enum": ["any"]}, "any", False),
        ({"type": "integer"}, "1", False),
    ],
)
def test_only_what_a_schema_lets_through_is_worth_trying(schema: dict[str, Any], text: str, fits: bool) -> None:
    assert Place(("value",), schema).fits(text) is fits


def test_a_sample_is_the_same_every_time() -> None:
    first, again = (example_of(TYPES["pattern"])[0].value for _ in range(2))
    assert first == again
    assert re.fullmatch(r"[A-Z]{3}-\d{4}(/[a-f]+)?", first["value"])
