"""The places of a schema that an arbitrarily large value would fit into."""

from typing import Any

import pytest

from mcp_chassis.approval.lint import unbounded

TEXT: dict[str, Any] = {"type": "string"}
BOUNDED: dict[str, Any] = {"type": "string", "maxLength": 5}

MAP: dict[str, Any] = {"type": "object", "maxProperties": 3, "propertyNames": {"maxLength": 5}}
KEYS = ("a key of a", "maxLength")


def gaps(schema: Any, **definitions: Any) -> list[tuple[str, str]]:
    """Return place and keyword of each gap of an argument `a`."""
    whole = {"type": "object", "properties": {"a": schema}, "additionalProperties": False, "$defs": definitions}
    return [(place, keyword) for place, keyword, _ in unbounded(whole)]


@pytest.mark.parametrize(
    "schema",
    [
        BOUNDED,
        {"type": "string", "enum": ["a"]},
        {"const": "a", "type": "string"},
        {"type": "string", "format": "date"},
        {"type": "integer", "minimum": 0, "maximum": 9},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "array", "items": BOUNDED, "maxItems": 3},
        {"type": "object", "properties": {"b": BOUNDED}, "additionalProperties": False},
        {"type": "object", "additionalProperties": BOUNDED, "maxProperties": 3, "propertyNames": {"maxLength": 5}},
        {"type": "object", "patternProperties": {"a": BOUNDED}, "maxProperties": 3, "propertyNames": {"enum": ["a"]}},
        {"type": "object", "properties": {"b": BOUNDED}},
        {"type": "array", "prefixItems": [BOUNDED], "maxItems": 1},
        {"type": ["string", "null"], "maxLength": 5},
        {"anyOf": [BOUNDED, {"type": "null"}]},
        {"$ref": "#/$defs/Bounded"},
    ],
    ids=repr,
)
def test_what_has_bounds_has_no_gap(schema: dict[str, Any]) -> None:
    assert gaps(schema, Bounded=BOUNDED) == []


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"title": "Any"}, [("a", "type")]),
        ({"type": "array", "items": {}, "maxItems": 1}, [("a[]", "type")]),
        (TEXT, [("a", "maxLength")]),
        ({"type": "string", "format": "uri"}, [("a", "maxLength")]),
        ({"type": "string", "pattern": "^a*$"}, [("a", "maxLength")]),
        ({"type": "integer"}, [("a", "minimum"), ("a", "maximum")]),
        ({"type": "number", "minimum": 0}, [("a", "maximum")]),
        ({"type": "array", "items": BOUNDED}, [("a", "maxItems")]),
        ({"type": "array", "items": TEXT, "maxItems": 3}, [("a[]", "maxLength")]),
        ({"type": "array", "prefixItems": [TEXT], "maxItems": 1}, [("a[]", "maxLength")]),
        ({"type": "array", "maxItems": 3}, [("a[]", "type")]),
        ({"type": "array", "prefixItems": [BOUNDED], "maxItems": 2}, [("a[]", "type")]),
        ({"type": "array", "items": True, "maxItems": 3}, [("a[]", "type")]),
        ({"type": ["string", "null"]}, [("a", "maxLength")]),
        ({"type": "object"}, [("a", "maxProperties"), KEYS, ("a.*", "type")]),
        ({"type": "object", "additionalProperties": True}, [("a", "maxProperties"), KEYS, ("a.*", "type")]),
        ({"type": "object", "additionalProperties": BOUNDED, "maxProperties": 3}, [KEYS]),
        ({**MAP, "additionalProperties": TEXT}, [("a.*", "maxLength")]),
        ({**MAP, "patternProperties": {"^a": TEXT}}, [("a.*", "maxLength")]),
        ({**MAP, "patternProperties": {"^a": BOUNDED}, "additionalProperties": TEXT}, [("a.*", "maxLength")]),
        ({"type": "object", "patternProperties": {"^a*$": BOUNDED}, "maxProperties": 3}, [KEYS]),
        ({**MAP, "additionalProperties": BOUNDED, "propertyNames": {"$ref": "#/$defs/Open"}}, [KEYS]),
        ({"$ref": "#/$defs/Absent"}, [("a", "type")]),
        ({"$ref": "#/properties/a"}, [("a", "type")]),
        (True, [("a", "type")]),
        ({"type": "object", "properties": {"b": TEXT}}, [("a.b", "maxLength")]),
        ({"anyOf": [TEXT, {"type": "null"}]}, [("a", "maxLength")]),
        ({"oneOf": [TEXT]}, [("a", "maxLength")]),
        ({"allOf": [TEXT]}, [("a", "maxLength")]),
        ({"$ref": "#/$defs/Open"}, [("a", "maxLength")]),
    ],
    ids=repr,
)
def test_what_has_no_bounds_is_found_wherever_it_is(schema: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert gaps(schema, Open=TEXT) == expected


def test_a_schema_that_contains_itself_ends() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/Tree"}}, "additionalProperties": False}
    assert gaps({"$ref": "#/$defs/Tree"}, Tree=tree) == []


def test_the_depth_of_a_gap_does_not_hide_it() -> None:
    deep = TEXT
    for _ in range(40):
        deep = {"type": "array", "items": deep, "maxItems": 1}
    assert gaps(deep) == [("a" + 40 * "[]", "maxLength")]


def test_definitions_that_refer_to_each_other_many_times_are_looked_at_once() -> None:
    """Each way through them would be two to the power of sixty."""
    twice = {f"D{n}": {"anyOf": [{"$ref": f"#/$defs/D{n + 1}"}] * 2} for n in range(60)}
    assert gaps({"$ref": "#/$defs/D0"}, **twice, D60=TEXT) == [("a", "maxLength")]


def test_a_gap_says_which_argument_of_field_closes_it() -> None:
    (gap,) = unbounded({"type": "object", "properties": {"a": TEXT}})
    assert gap == ("a", "maxLength", "max_length")
