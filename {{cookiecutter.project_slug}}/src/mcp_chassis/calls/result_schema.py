"""Checks a structured result as clients do: against the published output schema, its formats included.

Both official clients raise an error of their own at a result that breaks its schema. What pydantic serializes may: a
date-time without an offset, NaN, what a serializer or `model_construct` made. The schema becomes a validator of
pydantic-core once per tool, which is about a hundred times as fast as `jsonschema`; that one, which comes with the SDK,
reads the schemas that hold a keyword not known here, such as the `oneOf` of a discriminated union.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import pydantic_core
from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, SchemaError, SchemaValidator, core_schema

from .arguments import InvalidResult, rejection
from .exact import FORMATS, Inexact, after, choice

_NOTES = {
    *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
    *("$defs", "$comment", "$schema"),
}
_JSON: TypeAdapter[Any] = TypeAdapter(JsonValue, config=ConfigDict(allow_inf_nan=False))  # Python has other numbers
_ANY = " any"  # no definition of a schema has this name
_ANY_VALUE: CoreSchema = core_schema.custom_error_schema(
    core_schema.no_info_plain_validator_function(_JSON.validate_python),
    "json",
    custom_error_message="Input should be a value of JSON, without NaN and Infinity",
    ref=_ANY,
)
_KINDS = ("null", "boolean", "integer", "number", "string", "array", "object")
_BOUNDS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
_URI = r"[A-Z][A-Z0-9+.-]*:[!#$%&'()*+,./0-9:;=?@A-Z\[\]_~-]*"
_ATOM = r"[A-Z0-9!#$%&'*+/=?^_`{|}~-]+"
_SHOWN = {"date-time": "date-time with an offset, such as Z", "time": "time with an offset, such as Z"}
# As RFC 3339, 3986 and 5321 write them. Of other formats clients ask nothing.
_PATTERNS = {name: pattern for name, pattern, _ in FORMATS} | {
    "duration": r"P(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?",
    "uri": _URI,
    "email": rf"{_ATOM}(\.{_ATOM})*@([A-Z0-9-]+\.)+[A-Z0-9-]+",
}
_VALUES: Mapping[str, CoreSchema] = {
    "date-time": core_schema.datetime_schema(strict=False, tz_constraint="aware"),
    "time": core_schema.time_schema(strict=False, tz_constraint="aware"),
    "date": core_schema.date_schema(strict=False),
    **{name: after(core_schema.any_schema(), convert) for name, _, convert in FORMATS if name.startswith("ip")},
    "duration": core_schema.str_schema(pattern="[0-9][A-Za-z]$"),
}


def result_check(schema: dict[str, Any]) -> Callable[[Any], None]:
    """Return what raises `InvalidResult` for a structure, as JSON is read into Python, that breaks a schema."""
    try:
        compiler = _Compiler()
        named: list[Any] = [{**compiler.compiled(one), "ref": name} for name, one in schema.get("$defs", {}).items()]
        whole = core_schema.definitions_schema(compiler.compiled(schema), [_ANY_VALUE, *named])
        validate = SchemaValidator(whole).validate_python
    except (_Unknown, SchemaError, TypeError):
        return _checked_by_jsonschema(schema)

    def check(structure: Any) -> None:
        try:
            validate(structure)
        except ValidationError as error:
            raise InvalidResult(rejection(error)) from None

    return check


class _Unknown(Exception):
    """A schema that is left to `jsonschema`."""


class _Compiler:
    """Makes schemas of pydantic-core of those that pydantic publishes; others are `_Unknown`."""

    def compiled(self, node: Any) -> CoreSchema:
        if node is True:
            return core_schema.definition_reference_schema(_ANY)
        if not isinstance(node, dict):
            raise _Unknown
        rules = {name: value for name, value in node.items() if name not in _NOTES}
        if "$ref" in rules:
            return core_schema.definition_reference_schema(self._only(rules, "$ref").removeprefix("#/$defs/"))
        if "anyOf" in rules:
            return core_schema.union_schema([self.compiled(one) for one in self._only(rules, "anyOf")])
        kind = rules.pop("type", None)
        if "const" in rules:
            return choice(core_schema.literal_schema([self._only(rules, "const")]))
        if "enum" in rules:
            return choice(core_schema.literal_schema(self._only(rules, "enum")))
        make = getattr(self, f"_{kind}", None) if kind in _KINDS else None
        made: CoreSchema = make(rules) if make is not None else core_schema.definition_reference_schema(_ANY)
        if rules or (kind is not None and make is None):  # each takes out what it knows
            raise _Unknown
        return made

    @staticmethod
    def _only(rules: dict[str, Any], name: str) -> Any:
        if rules.keys() - {name}:
            raise _Unknown
        return rules[name]

    def _null(self, _: dict[str, Any]) -> CoreSchema:
        return core_schema.none_schema()

    def _boolean(self, _: dict[str, Any]) -> CoreSchema:
        return core_schema.bool_schema(strict=True)

    def _number(self, rules: dict[str, Any], **bounds: Any) -> CoreSchema:
        rules.pop("format", None)
        bounds |= {ours: rules.pop(name) for name, ours in _BOUNDS.items() if name in rules}
        return core_schema.float_schema(strict=True, allow_inf_nan=False, **bounds)

    def _integer(self, rules: dict[str, Any]) -> CoreSchema:
        bounds = {ours: rules[name] for name, ours in _BOUNDS.items() if name in rules}
        whole = self._number(rules, multiple_of=1)
        return core_schema.union_schema([core_schema.int_schema(strict=True, **bounds), whole], mode="left_to_right")

    def _string(self, rules: dict[str, Any]) -> CoreSchema:
        for name in ("contentMediaType", "contentEncoding"):
            rules.pop(name, None)
        text = core_schema.str_schema(
            strict=True,
            min_length=rules.pop("minLength", None),
            max_length=rules.pop("maxLength", None),
            pattern=rules.pop("pattern", None),
            regex_engine="python-re",
        )
        name = rules.pop("format", "")
        return core_schema.chain_schema([text, _format(name)]) if name in _PATTERNS else text

    def _array(self, rules: dict[str, Any]) -> CoreSchema:
        least, most, parts = rules.pop("minItems", 0), rules.pop("maxItems", None), rules.pop("prefixItems", None)
        if parts is None:
            one = self.compiled(rules.pop("items", True))
            items = core_schema.list_schema(one, min_length=least, max_length=most, strict=True)
        elif least == most == len(parts):
            # A tuple is an array in JSON, which is a list here.
            positions = core_schema.tuple_schema([self.compiled(one) for one in parts], strict=False)
            items = core_schema.chain_schema([core_schema.list_schema(strict=True), positions])  # type: ignore[assignment]
        else:
            raise _Unknown
        return after(items, _require_unique) if rules.pop("uniqueItems", False) else items

    def _object(self, rules: dict[str, Any]) -> CoreSchema:
        members, required = rules.pop("properties", None), rules.pop("required", ())
        others = rules.pop("additionalProperties", True)
        if members is None and not required:
            keys = self.compiled({"type": "string", **rules.pop("propertyNames", {})})
            least, most = rules.pop("minProperties", None), rules.pop("maxProperties", None)
            if others is False:
                raise _Unknown
            return core_schema.dict_schema(keys, self.compiled(others), min_length=least, max_length=most, strict=True)
        members = members or {}
        fields = {
            name: core_schema.typed_dict_field(self.compiled(members.get(name, True)), required=name in required)
            for name in {**members, **dict.fromkeys(required)}
        }
        if others is False:
            return core_schema.typed_dict_schema(fields, extra_behavior="forbid", strict=True)
        extras = self.compiled(others)
        return core_schema.typed_dict_schema(fields, extra_behavior="allow", extras_schema=extras, strict=True)


def _format(name: str) -> CoreSchema:
    shape = core_schema.str_schema(pattern=f"(?i)^(?:{_PATTERNS[name]})$")
    steps: list[CoreSchema] = [shape, _VALUES[name]] if name in _VALUES else [shape]
    said = f"Input should be a valid {_SHOWN.get(name, name)}"
    return core_schema.custom_error_schema(core_schema.chain_schema(steps), "format", custom_error_message=said)


def _require_unique(items: list[Any]) -> list[Any]:
    if len({pydantic_core.to_json(one) for one in items}) != len(items):
        raise PydanticCustomError("unique_items", "Items should differ from one another")
    return items


def _checked_by_jsonschema(schema: dict[str, Any]) -> Callable[[Any], None]:
    jsonschema = import_module("jsonschema")  # takes a third of a second, which few projects need
    formats = jsonschema.FormatChecker(formats=())
    for name in _PATTERNS:
        is_valid = SchemaValidator(_format(name)).isinstance_python
        formats.checks(name)(lambda value, is_valid=is_valid: not isinstance(value, str) or is_valid(value))
    dialect = jsonschema.validators.validator_for(schema)
    try:
        dialect.check_schema(schema)  # a pattern that is none would end every call
    except jsonschema.SchemaError as error:
        raise Inexact("the result", error.message, "str") from None
    validator = dialect(schema, format_checker=formats)
    check_numbers = result_check({})

    def check(structure: Any) -> None:
        check_numbers(structure)
        for error in validator.iter_errors(structure):
            place = ".".join(map(str, error.absolute_path)) or "result"
            raise InvalidResult(f"{place}: it breaks the rule «{error.validator}»")

    return check
