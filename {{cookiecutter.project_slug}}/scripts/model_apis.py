"""What the definitions of tools cost in a model's context, and what the big model APIs do not take of them.

A client hands the name, the description and the input schema of its tools to a model. Three APIs are compared, in
their strict modes where they have one: OpenAI (structured outputs: supported schemas), Anthropic (strict tool use: JSON
Schema limitations) and Gemini (FunctionDeclaration). Keywords that only bound a value (`maxLength`, `minimum`,
`uniqueItems`, `const`) are not reported: adapters drop them, and the server enforces them either way.

`tools check` runs this in the checkout. No server needs it.
"""

import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Any

from mcp_chassis.calls.tools import GuardedTool
from mcp_chassis.cli.terminal import table

_BYTES_PER_TOKEN = 4
_MAX_DESCRIPTION = 1024  # characters: OpenAI's error `string_above_max_length`
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MEMBER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_GEMINI_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_EVERY = "openai anthropic gemini"
_RARE = "not if contains dependentRequired dependentSchemas unevaluatedProperties unevaluatedItems"
_MAP = "take a list of objects that have the key as a member, instead of a dict"

# The APIs that lack a keyword, and what to write instead of the type that brings it.
_LACKED: Mapping[str, tuple[str, str]] = {
    "oneOf": ("openai anthropic", "write the union without a discriminator"),
    "allOf": ("openai gemini", "write one type with all members"),
    "prefixItems": ("openai anthropic", "take an object with named members instead of a tuple"),
    "patternProperties": (_EVERY, _MAP),
    "propertyNames": (_EVERY, _MAP),
    "additionalProperties": ("openai anthropic", _MAP),
    **dict.fromkeys(_RARE.split(), (_EVERY, "check it in the tool")),
}


def check_for_models(tools: Mapping[str, GuardedTool], budget: int, apis: Collection[str]) -> int:
    """Print what the definitions cost a model, and what model APIs do not take of them. Return the exit code."""
    costs = {name: tokens(shown_to_model(guarded)) for name, guarded in tools.items()}
    whole, code = sum(costs.values()), 0
    by_cost = sorted(costs.items(), key=lambda item: -item[1])
    print(table([("TOOL", "TOKENS"), *((name, str(cost)) for name, cost in (*by_cost, ("all", whole)))]))
    for name, guarded in tools.items():
        for is_common, text in unportable(guarded, apis):
            print(f"{'' if is_common else 'Note: '}{name}: {text}", file=sys.stderr)
            code |= is_common
    if whole > budget:
        print(
            f"The definitions take about {whole} tokens of a model's context, more than "
            f"TOOLS_TOKEN_BUDGET of {budget}. Shorten those that cost most, split the server, or raise the budget.",
            file=sys.stderr,
        )
        code = 1
    return code


def shown_to_model(guarded: GuardedTool) -> dict[str, Any]:
    """Return what a model reads of a tool."""
    tool = guarded.tool
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}


def tokens(value: Any) -> int:
    """Return about how many tokens a value takes, as JSON in UTF-8."""
    return -(-len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) // _BYTES_PER_TOKEN)


def unportable(guarded: GuardedTool, apis: Collection[str]) -> Iterator[tuple[bool, str]]:
    """Yield what some of these APIs do not take: whether more than one does not, and what to write instead."""
    for lacking, text in _findings(guarded):
        if found := [api for api in apis if api in lacking]:
            yield len(found) > 1, f"{text} (not taken by {', '.join(found)})"


def _findings(guarded: GuardedTool) -> Iterator[tuple[str, str]]:
    name, schema = guarded.tool.name, guarded.tool.parameters
    if not _NAME.fullmatch(name):
        yield _EVERY, "its name must be 1 to 64 letters, digits, _ and -: rename it"
    elif not name[0].isalpha() and name[0] != "_":
        yield "gemini", "its name must begin with a letter: rename it"
    if len(guarded.tool.description or "") > _MAX_DESCRIPTION:
        yield "openai", f"its description is longer than {_MAX_DESCRIPTION} characters: shorten it"
    optional, advised = set[str](), set[str]()
    for part in _schemas(schema):
        members = part.get("properties", {}).keys()
        optional |= members - set(part.get("required", ()))
        for member in members:
            if not _GEMINI_MEMBER.fullmatch(member):
                lacking = "gemini" if _MEMBER.fullmatch(member) else "anthropic gemini"
                yield lacking, f"{member!a}: write a letter, then at most 63 letters, digits and _"
        for keyword, (lacking, instead) in _LACKED.items():
            if part.get(keyword, False) is not False and instead not in advised:
                advised.add(instead)
                yield lacking, f"{keyword}: {instead}"
    if _is_recursive(schema):
        yield "anthropic gemini", "a type contains itself: take a flat list whose entries name their parent"
    if optional:
        yield "openai", f"default of {', '.join(sorted(optional))}: add `| None` to the type, and write no default"


def _schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and those in it, without following references."""
    if not isinstance(schema, dict):
        return
    yield schema
    named = (schema.get(keyword, {}).values() for keyword in ("properties", "patternProperties", "$defs"))
    listed = (schema.get(keyword, ()) for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"))
    single = (schema.get(keyword) for keyword in ("items", "additionalProperties", "propertyNames"))
    for part in chain(*named, *listed, single):
        yield from _schemas(part)


def _is_recursive(schema: dict[str, Any]) -> bool:
    uses = {
        name: {str(part["$ref"]).removeprefix("#/$defs/") for part in _schemas(body) if "$ref" in part}
        for name, body in schema.get("$defs", {}).items()
    }
    for _ in range(len(uses)):
        uses = {name: used.union(*(uses.get(one, set()) for one in used)) for name, used in uses.items()}
    return any(name in used for name, used in uses.items())
