"""Finds what an attacker would write into a tool: hidden characters, orders to the model, arguments without bounds.

Tool poisoning hides instructions where a model reads and a person does not look. An honest description says what the
tool does; it does not instruct the model about anything else.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..calls.declarations import ToolPolicy
from ..calls.exact import objects_in
from ..calls.tools import GuardedTool
from ..sinks.hidden import find_hidden
from .lock import LockError, definition, differences
from .orders import order_in

INSTRUCTIONS = "the server's instructions"
"""These are orders by nature. No tool has this name: it holds spaces."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")  # SEP-986; with a letter of another script one tool passes for another
_BOUNDED_FORMATS = frozenset({"date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6"})

Gap = tuple[str, str, str]
"""The place, the missing keyword of JSON Schema, and the argument of pydantic's `Field` that sets it."""


def approval_problems(tools: Mapping[str, GuardedTool], lock: Path, other_texts: Mapping[str, Any]) -> list[str]:
    """Return the reasons not to serve the tools, and the texts of resources and prompts; none if all is well."""
    problems = lint_problems(tools, other_texts)
    try:
        changed = differences(lock, tools)
    except LockError as error:
        return [*problems, str(error)]
    if changed:
        changed.append("Review this. If it is as it should be, run `tools lock` and commit the lock file.")
    return problems + changed


def lint_problems(tools: Mapping[str, GuardedTool], other_texts: Mapping[str, Any]) -> list[str]:
    """Return why tools, and the texts of resources and prompts, cannot be approved."""
    problems = [problem for guarded in tools.values() for problem in tool_problems(guarded)]
    return problems + [problem for name, texts in other_texts.items() for problem in text_problems(name, texts)]


def tool_problems(guarded: GuardedTool) -> list[str]:
    """Return what is wrong with a tool's texts and schema, a sentence each with what to do."""
    name = guarded.tool.name
    problems = []
    if not _NAME.fullmatch(name):
        problems.append(f"{name!a}: is not a name that looks like no other. Use letters a-z, digits and _.")
    if not (guarded.tool.description or "").strip():
        problems.append(f"{name}: has no description. Write a docstring: the model chooses by it.")
    problems += text_problems(name, definition(guarded))
    for place, missing, field in unbounded(guarded.tool.parameters):
        advice = f"Add it: Annotated[..., Field({field}=...)]" if field else "Write a type instead of Any"
        problems.append(f"{name}: {place} has no {missing}. {advice}.")
    return problems


def unconfirmed(policy: ToolPolicy) -> list[str]:
    """Return what an operator should know of a destructive tool that may run without a confirmation."""
    if not policy.destructive or policy.confirm is True:
        return []
    where = " where the client cannot be asked" if policy.confirm else ""
    return [f"it is destructive and runs without a confirmation{where}: the client has to ask the user before the call"]


def text_problems(name: str, value: Any) -> list[str]:
    """Return what is wrong with the texts in `value`, the names of its members included."""
    problems = []
    for text in _strings(value):
        if find_hidden(text) is not None:
            problems.append(f"{name}: a text holds hidden characters: {ascii(text)[:80]}. Remove them.")
        if name != INSTRUCTIONS and (order := order_in(text)):
            problems.append(f"{name}: a text gives the model orders: {ascii(order)[:80]}. Describe the tool instead.")
    return problems


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings([*value.keys(), *value.values()])
    elif isinstance(value, Iterable):
        for item in value:
            yield from _strings(item)


def unbounded(schema: dict[str, Any]) -> list[Gap]:
    """Return the places of an input schema that accept an arbitrarily large value.

    Every keyword of JSON Schema (2020-12) that permits a value is followed: a schema under `not`, `if` or `contains`
    only excludes values.
    """
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
