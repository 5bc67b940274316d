"""Finds the places of an input schema that accept an arbitrarily large value.

Every keyword of JSON Schema (2020-12) that permits a value is followed: a schema under `not`, `if` or `contains` only
excludes values.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ..calls.exact import objects_in

_BOUNDED_FORMATS = frozenset({"date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6"})

Gap = tuple[str, str, str]
"""The place, the missing keyword of JSON Schema, and the argument of pydantic's `Field` that sets it."""


def unbounded(schema: dict[str, Any]) -> list[Gap]:
    """Return every gap of an input schema."""
    # A definition is followed once: one that contains itself is bounded by the depth of a message.
    return list(_gaps(schema, dict(schema.get("$defs", {})), ""))


def unreachable(schema: dict[str, Any], max_bytes: int, max_nodes: int) -> Iterator[str]:
    """Yield the bounds that no request reaches: the server refuses larger bodies before the guard sees them."""
    limits = {"maxLength": max_bytes, "maxItems": max_nodes, "maxProperties": max_nodes}
    for place, part in objects_in(schema):
        for keyword, limit in limits.items():
            if isinstance(bound := part.get(keyword), int) and bound > limit:
                setting = "MAX_BODY_BYTES" if keyword == "maxLength" else "MAX_BODY_NODES"
                yield f"{place} has {keyword} {bound}, beyond {setting} of {limit}: raise it, or lower the bound"


def _gaps(schema: Any, definitions: dict[str, Any], place: str) -> Iterator[Gap]:
    if not isinstance(schema, dict):
        if schema is not False:  # `true`, or a reference that leads nowhere: anything fits
            yield place, "type", ""
        return
    if "enum" in schema or "const" in schema:
        return
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.removeprefix("#/$defs/")
        definition, definitions[name] = definitions.get(name), False
        yield from _gaps(definition, definitions, place)
        return
    yield from _own_gaps(schema, place or "the arguments")
    for path, part in _parts(schema, place):
        yield from _gaps(part, definitions, path)


def _own_gaps(schema: dict[str, Any], place: str) -> Iterator[Gap]:
    kinds = {schema["type"]} if isinstance(schema.get("type"), str) else set(schema.get("type", ()))
    if not kinds and not {"anyOf", "oneOf", "allOf"} & schema.keys():  # Any takes everything, at any depth
        yield place, "type", ""
    if "string" in kinds and "maxLength" not in schema and schema.get("format") not in _BOUNDED_FORMATS:
        yield place, "maxLength", "max_length"
    if kinds & {"integer", "number"}:
        if not {"minimum", "exclusiveMinimum"} & schema.keys():
            yield place, "minimum", "ge"
        if not {"maximum", "exclusiveMaximum"} & schema.keys():
            yield place, "maximum", "le"
    if "array" in kinds and "maxItems" not in schema:
        yield place, "maxItems", "max_length"
    if "object" in kinds and _is_map(schema) and "maxProperties" not in schema:
        yield place, "maxProperties", "max_length"


def _is_map(schema: Mapping[str, Any]) -> bool:
    """Whether a caller chooses names of members. By default `closed_schema` closes the schema of a model."""
    further = schema.get("additionalProperties", "properties" not in schema)
    return further is not False or bool(schema.get("patternProperties"))


def _parts(schema: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for combined in ("anyOf", "oneOf", "allOf"):
        yield from ((place, part) for part in schema.get(combined, ()))
    kinds = schema.get("type", ())
    if "array" in kinds:
        first = schema.get("prefixItems", ())
        yield from ((f"{place}[]", item) for item in first)
        if schema.get("maxItems", len(first) + 1) > len(first):
            yield f"{place}[]", schema.get("items", True)
    if "object" in kinds and _is_map(schema):
        names = schema.get("propertyNames")
        yield f"a key of {place or 'the arguments'}", {"type": "string"} | (names if isinstance(names, dict) else {})
        yield f"{place}.*", schema.get("additionalProperties", not schema.get("patternProperties"))
        yield from ((f"{place}.*", part) for part in schema.get("patternProperties", {}).values())
    for name, member in schema.get("properties", {}).items():
        yield f"{place}.{name}".lstrip("."), member
