"""One meaning for the type of a parameter: the guard accepts what the published JSON Schema accepts, and nothing else.

pydantic reads more than it publishes ("1700000000" is a date-time, `true` is 1) and less (7.0 is an integer in JSON).
So its schema is rewritten before a validator is made of it, and each part has to be one that is known to say the same
in JSON Schema; any other is refused, with what to write instead. A function in `AfterValidator` is the tool's own rule:
like the tool's code, it sees only what the schema accepts.
"""

import datetime
import ipaddress
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from decimal import Decimal
from enum import Enum
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-5][0-9])"
# How RFC 3339, 9562 and 4291 write them, in upper case: without leap seconds, as Python, and to the nanosecond.
_TEXTS: Mapping[object, tuple[str, str, Callable[[str], Any]]] = {
    "date": ("date", r"[0-9]{4}-[0-9]{2}-[0-9]{2}", datetime.date.fromisoformat),
    "datetime": ("date-time", rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_CLOCK}", datetime.datetime.fromisoformat),
    "time": ("time", _CLOCK, datetime.time.fromisoformat),
    "uuid": ("uuid", r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", uuid.UUID),
    ipaddress.IPv4Address: ("ipv4", r"[0-9.]+", ipaddress.IPv4Address),
    ipaddress.IPv6Address: ("ipv6", r"[0-9A-F:.]+", ipaddress.IPv6Address),
}
FORMATS = tuple(_TEXTS.values())  # of texts: the name, the pattern, what converts them
_FORMATS = frozenset({*(name for name, _, _ in FORMATS), "password"})

_BOUNDS = ("ge", "gt", "le", "lt")
_SIZES = {"min_length", "max_length", "fail_fast"}
_NOTES = {"type", "ref", "metadata", "serialization", "strict"}

_CONVERT = "take a str with max_length and convert it in the tool"
_DECLARE = "declare what may be sent, with one name each; the guard accepts no more"
_PATTERN = r"write [0-9] for \d, [A-Za-z0-9_] for \w, [^\n] for a dot, ^ and $ for ends, AfterValidator for strip"
_DECIMAL = "write Field(max_digits=..., decimal_places=...) with ge=0 or gt=0 at most, or ge and le only"
# The types that JSON Schema has as well, with the rules that it has (None: the parts have them), and what to write
# instead of others.
_RULES: Mapping[str, tuple[set[str] | None, str]] = {
    kind: (rules, instead)
    for kinds, rules, instead in (
        ("any none bool", set(), _DECLARE),
        ("date uuid", set(), _CONVERT),
        ("time", {"microseconds_precision"}, _DECLARE),
        ("datetime", {"microseconds_precision", "tz_constraint"}, "take AwareDatetime; check bounds in the tool"),
        ("str", _SIZES | {"pattern", "to_lower", "to_upper"}, _PATTERN),
        ("int", {*_BOUNDS, "multiple_of"}, _CONVERT),
        ("float", {*_BOUNDS, "allow_inf_nan"}, _CONVERT),
        ("decimal", {*_BOUNDS, "max_digits", "decimal_places", "allow_inf_nan"}, _DECIMAL),
        ("literal enum", {"expected", "cls", "members", "sub_type"}, _CONVERT),
        ("list tuple", _SIZES | {"items_schema", "variadic_item_index"}, _DECLARE),
        ("set frozenset", _SIZES | {"items_schema"}, "take a list"),
        ("dict", _SIZES | {"keys_schema", "values_schema"}, "let its keys be str, with max_length, or a Literal"),
        ("model model-fields model-field dataclass dataclass-args dataclass-field", None, _DECLARE),
        ("typed-dict typed-dict-field nullable default union tagged-union", None, _DECLARE),
        ("definitions definition-ref function-after", None, _DECLARE),
    )
    for kind in kinds.split()
}
_OTHERS: Mapping[str, str] = {
    **dict.fromkeys(("function-before", "function-wrap", "function-plain"), f"use AfterValidator, or {_CONVERT}"),
    **{"generator": "take a list", "named-tuple": "take a model"},
    "published": "annotate the type, with its rules in Field(...); json_schema_extra may hold remarks only",
    "timedelta": "take a number of seconds: Annotated[float, Field(ge=..., le=...)]",
}
_CONFIG = {"str_strip_whitespace", "str_min_length", "str_max_length", "coerce_numbers_to_str", "regex_engine"}
_PARTS = ("schema", "items_schema", "keys_schema", "values_schema", "fields", "choices", "definitions")
_HASHABLE = frozenset({"str", "int", "float", "bool", "none", "literal", "enum", "uuid", "date", "datetime"})
_REMARKS = {"title", "description", "examples", "deprecated", "readOnly", "writeOnly"}
# What pydantic publishes for its own types; other functions are WithJsonSchema, SkipValidation and the like.
_PUBLISHERS = {"pydantic.main", "pydantic.types", "pydantic.networks", "pydantic._internal._generate_schema"}
# The regular expressions that ECMA-262 (with its flag u), Python and Rust read alike.
_ESCAPE = r"\\(?:[nrtfv/^$\\.*+?()[\]{}|]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})"
_ATOM = rf"\)|{_ESCAPE}|\[(?!\^\])\^?(?:(?!&&|--|~~|\|\|)(?:{_ESCAPE}|\\-|[^][\\]))+\]|[^][\\(){{}}*+?.|^$]"
_COMMON = re.compile(rf"(?:\(\?:|[(|^$]|(?:{_ATOM})(?:(?:[*+?]|\{{[0-9]+(?:,[0-9]*)?\}})\??)?)*")


class InvalidTool(TypeError):
    """A tool that cannot be served. The message has its name, and what to write."""


class Inexact(TypeError):
    """A type that clients and the guard would read differently. The message says where, and what to write."""

    def __init__(self, place: str, what: str, kind: str) -> None:
        instead = _RULES[kind][1] if kind in _RULES else _OTHERS.get(kind, _CONVERT)
        super().__init__(f"{place or 'the arguments'}: {what}: {instead}")


class _Published(GenerateJsonSchema):
    def decimal_schema(self, schema: core_schema.DecimalSchema) -> dict[str, Any]:
        if pattern := _decimal_pattern(schema):
            return {"type": "string", "pattern": pattern, "maxLength": schema["max_digits"] + 2}
        bounds: dict[str, Any] = {name: float(bound) for name, bound in _bounds(schema).items()}
        return self.float_schema(core_schema.float_schema(**bounds))

    def field_is_present(self, field: Any) -> bool:
        return bool(field.get("init", True)) and super().field_is_present(field)

    def dict_schema(self, schema: core_schema.DictSchema) -> dict[str, Any]:
        made = super().dict_schema(schema)
        if patterns := made.pop("patternProperties", None):  # these say nothing of names that do not match
            (made["additionalProperties"],) = patterns.values()
            made["propertyNames"] = self.generate_inner(schema["keys_schema"])
        return made


def exact(model: type[BaseModel]) -> tuple[dict[str, Any], SchemaValidator]:
    """Return the schema of the arguments to publish, and the validator that accepts exactly what it describes."""
    whole = model.__pydantic_core_schema__
    validator = SchemaValidator(_Rewriter(whole).rewritten(whole, ""), _use_prebuilt=False)
    published = deepcopy(model.model_json_schema(schema_generator=_Published))
    for place, node in objects_in(published):
        if isinstance(node.get("properties"), dict) and node.get("type") == "object":
            node.setdefault("additionalProperties", False)
        if node.get("type") == "array":
            node.pop("uniqueItems", None)  # duplicates in a set count once
        if isinstance(name := node.get("format"), str) and "type" in node and name not in _FORMATS:
            raise Inexact(node.get("title") or place, f"not every client knows the format {name}", "format")
    return published, validator


def objects_in(document: Any, place: str = "the arguments") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object in a JSON document, the outer first, with the name of its place."""
    if isinstance(document, list):
        for part in document:
            yield from objects_in(part, place)
    elif isinstance(document, dict):
        yield place, document
        for name, part in document.items():
            yield from objects_in(part, name)


class _Rewriter:
    """Makes a schema for the guard of one by pydantic."""

    def __init__(self, whole: Any) -> None:
        self._definitions = {one["ref"]: one for one in whole.get("definitions", ())}

    def rewritten(self, node: Any, place: str) -> Any:
        """Return a part that accepts what is published for it; `ref` is its name in the whole."""
        made = self._exact(node, place)
        return made | {"ref": node["ref"]} if isinstance(node, dict) and isinstance(node.get("ref"), str) else made

    def _exact(self, node: Any, place: str) -> Any:
        if isinstance(node, list | tuple):
            return type(node)(self.rewritten(part, place) for part in node)
        if not isinstance(node, dict):
            return node
        kind = node.get("type")
        if not isinstance(kind, str):  # fields by their names, or choices by their tags
            named = {name.value if isinstance(name, Enum) else name: part for name, part in node.items()}
            return {name: self.rewritten(part, f"{place}.{name}".lstrip(".")) for name, part in named.items()}
        place = f"{place}.{node['name']}" if kind == "dataclass-field" else place
        if _is_covered(node):
            raise Inexact(place, "what is published in place of the type is not enforced", "published")
        if kind in {"lax-or-strict", "json-or-python"}:  # arguments are JSON, and strict
            return self.rewritten(node["strict_schema" if kind == "lax-or-strict" else "json_schema"], place)
        for problem in self._problems(node, kind):
            raise Inexact(place, problem, kind)
        parts = {part: self.rewritten(node[part], place) for part in _PARTS if part in node}
        if kind in {"set", "frozenset"}:
            return after({**node, **parts, "type": "list"}, set if kind == "set" else frozenset)
        return _leaf({**node, **parts}, kind)

    def _problems(self, node: dict[str, Any], kind: str) -> Iterator[str]:
        """Yield why JSON Schema cannot say the same as this node alone."""
        config = node.get("config") or {}
        if kind not in _RULES:
            yield f"JSON Schema has no such type ({kind})"
        known = _RULES[kind][0] if kind in _RULES else None
        if rules := config.keys() & _CONFIG if known is None else node.keys() - _NOTES - known:
            yield f"{', '.join(sorted(rules))} cannot be published"
        if "allow" in (node.get("extra_behavior"), config.get("extra_fields_behavior")) or node.get("custom_init"):
            yield 'extra="allow" or a custom __init__ accepts any member'
        if node.get("on_error", "raise") != "raise" or config.get("validate_by_alias") is False:
            yield "OnErrorOmit and validate_by_alias=False cannot be published"
        if not isinstance(node.get("validation_alias", ""), str) or not isinstance(node.get("discriminator", ""), str):
            yield "AliasChoices, AliasPath and Discriminator functions cannot be published"
        if kind == "dict" and not self._kinds(node.get("keys_schema")) <= {"str", "any"}:
            yield "names of members are texts"
        if kind in {"set", "frozenset"} and not self._kinds(node.get("items_schema")) <= _HASHABLE:
            yield "not every value can be in a set"
        yield from _value_problems(node, kind)

    def _kinds(self, node: Mapping[str, Any] | None) -> set[str]:
        """Return the types that values of a node have; a choice among texts is a `str`."""
        node = node or {"type": "any"}
        while node["type"] in {"definition-ref", "function-after"}:
            node = self._definitions[node["schema_ref"]] if "schema_ref" in node else node["schema"]
        if node["type"] == "nullable":
            return {"none"} | self._kinds(node["schema"])
        is_choice = node["type"] in {"literal", "enum"}
        return {"str"} if is_choice and all(isinstance(one, str) for one in _values(node)) else {node["type"]}


def _is_covered(node: dict[str, Any]) -> bool:
    """Whether a rule is published that the guard does not know; remarks may be."""
    metadata, cls = node.get("metadata", {}), node.get("cls")
    config: Any = getattr(cls, "model_config", getattr(cls, "__pydantic_config__", {}))
    functions = (*metadata.get("pydantic_js_functions", ()), *metadata.get("pydantic_js_annotation_functions", ()))
    extras = (metadata.get("pydantic_js_extra") or {}, config.get("json_schema_extra") or {})
    if any(callable(extra) for extra in extras) or any(one.__module__ not in _PUBLISHERS for one in functions):
        return True
    return any(name not in _REMARKS and not name.startswith("x-") for extra in extras for name in extra)


def _value_problems(node: dict[str, Any], kind: str) -> Iterator[str]:
    pattern = node.get("pattern", "") if kind == "str" else ""
    if not isinstance(pattern, str) or not _COMMON.fullmatch(pattern):
        yield f"the pattern {pattern!r} does not mean the same to every client"
    if kind == "datetime" and node.get("tz_constraint") == "naive":
        yield "a date-time has an offset, such as Z"
    if kind == "decimal" and {"max_digits", "decimal_places"} & node.keys() and not _decimal_pattern(node):
        yield "JSON Schema has no such decimal"
    if kind == "decimal" and any(Decimal(str(float(one))) != one for one in _bounds(node).values()):
        yield "a bound is finer than a number of JSON"
    if kind in {"literal", "enum"} and not all(isinstance(one, str | int | float | None) for one in _values(node)):
        yield "JSON has no such value"


def _leaf(node: dict[str, Any], kind: str) -> Any:
    if form := _TEXTS.get(node["function"]["function"] if kind == "function-after" else kind):
        return after(core_schema.str_schema(), _reader(*form))
    if kind in {"literal", "enum"}:
        return choice(node)
    if kind == "decimal" and (pattern := _decimal_pattern(node)):
        return after(core_schema.str_schema(), _reader("decimal with a fixed number of digits", pattern, Decimal))
    if kind == "decimal":
        return _number(node)
    return {**node, "allow_inf_nan": False} if kind == "float" else node


def after(schema: Any, function: Callable[[Any], Any]) -> CoreSchema:
    """Return a schema whose values a function reads further."""
    return core_schema.chain_schema([schema, core_schema.no_info_plain_validator_function(function)])


def _reader(name: str, pattern: str, convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            if re.fullmatch(pattern, text, re.IGNORECASE | re.ASCII):
                return convert(text.upper())
        except ValueError:  # the thirtieth of February
            pass
        raise PydanticCustomError("format", "Input should be a valid {name}", {"name": name})

    return read


def _values(node: Mapping[str, Any]) -> list[Any]:
    return [one.value if isinstance(one, Enum) else one for one in node.get("expected") or node["members"]]


def choice(node: Any) -> CoreSchema:
    """Return a schema for exactly these values."""
    values, members = _values(node), node.get("expected") or node["members"]
    if all(type(one) is str for one in (members if node["type"] == "literal" else values)):
        return cast(CoreSchema, node)
    # True and 1 are one key of a dictionary in Python, and two values in JSON.
    known = {(isinstance(one, bool), one): got for one, got in zip(values, members, strict=True)}

    def read(value: Any) -> Any:
        if not isinstance(value, list | dict) and (key := (isinstance(value, bool), value)) in known:
            return known[key]
        raise PydanticCustomError("literal_error", "Input should be {one}", {"one": " or ".join(map(repr, values))})

    return core_schema.no_info_plain_validator_function(read)


def _decimal_pattern(node: Mapping[str, Any]) -> str:
    """Return how texts of a decimal look; nothing if it is sent as a number, or cannot be published."""
    digits, places = node.get("max_digits") or 0, node.get("decimal_places")
    bounds = _bounds(node)
    if places is None or digits <= places or bounds not in ({}, {"ge": 0}, {"gt": 0}):
        return ""
    sign, fraction = "" if bounds else "-?", rf"(\.[0-9]{{1,{places}}})?" if places else ""
    return f"^{'(?![0.]*$)' if 'gt' in bounds else ''}{sign}[0-9]{{1,{digits - places}}}{fraction}$"


def _bounds(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Decimal(str(node[name])) for name in _BOUNDS if name in node}


def _number(node: Mapping[str, Any]) -> CoreSchema:
    both: list[Any] = [core_schema.int_schema(strict=True), core_schema.float_schema(strict=True)]
    number = core_schema.union_schema(both, custom_error_type="number", custom_error_message="Input should be a number")
    decimal = after(number, lambda value: Decimal(str(value)))
    return core_schema.chain_schema([decimal, core_schema.decimal_schema(**_bounds(node))])
