"""Finds the places of an input schema that an arbitrarily large value would fit into."""

from collections.abc import Iterator
from typing import Any

_BOUNDED_FORMATS = frozenset({"date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6"})
_DEEPEST = 16

Gap = tuple[str, str, str]
"""The place, the missing keyword of JSON Schema, and the argument of pydantic's `Field` that sets it."""


def unbounded(schema: dict[str, Any]) -> list[Gap]:
    """Return every gap of an input schema."""
    return list(_gaps(schema, schema.get("$defs", {}), "", 0))


def _gaps(schema: Any, definitions: dict[str, Any], place: str, depth: int) -> Iterator[Gap]:
    if not isinstance(schema, dict) or depth > _DEEPEST or "enum" in schema or "const" in schema:
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from _gaps(definitions.get(reference.rpartition("/")[2]), definitions, place, depth + 1)
        return
    yield from _own_gaps(schema, place or "the arguments")
    for path, part in _parts(schema, place):
        yield from _gaps(part, definitions, path, depth + 1)


def _own_gaps(schema: dict[str, Any], place: str) -> Iterator[Gap]:
    kind = schema.get("type")
    if not {"type", "anyOf", "oneOf", "allOf"} & schema.keys():  # Any takes everything, at any depth
        yield place, "type", ""
    if kind == "string" and "maxLength" not in schema and schema.get("format") not in _BOUNDED_FORMATS:
        yield place, "maxLength", "max_length"
    if kind in {"integer", "number"}:
        if not {"minimum", "exclusiveMinimum"} & schema.keys():
            yield place, "minimum", "ge"
        if not {"maximum", "exclusiveMaximum"} & schema.keys():
            yield place, "maximum", "le"
    if kind == "array" and "maxItems" not in schema:
        yield place, "maxItems", "max_length"
    if kind == "object" and schema.get("additionalProperties", False) is not False and "maxProperties" not in schema:
        yield place, "maxProperties", "max_length"


def _parts(schema: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for combined in ("anyOf", "oneOf", "allOf"):
        yield from ((place, part) for part in schema.get(combined, ()))
    for item in (schema.get("items"), *schema.get("prefixItems", ())):
        yield f"{place}[]", item
    yield f"{place}.*", schema.get("additionalProperties")
    for name, member in schema.get("properties", {}).items():
        yield f"{place}.{name}".lstrip("."), member
