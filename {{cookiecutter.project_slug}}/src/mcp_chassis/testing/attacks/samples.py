"""Valid arguments for a published JSON schema, and the places in them where a payload can go.

Examples are taken first: where no text for a pattern is found, the tool's author adds `Field(examples=["..."])`.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import islice, product
from operator import ge, gt, le, lt
from random import Random
from typing import Any

from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

_MAX_DEPTH = 6
_FORMATS = {
    **{"date": "2026-07-28", "date-time": "2026-07-28T12:00:00Z", "time": "12:00:00Z"},
    **{"ipv4": "127.0.0.1", "ipv6": "::1"},
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
}
_GUESSES = ("sample", "Sample", "SAMPLE", "1", "12", "123", "2026", "1.0.0", "sample.txt", "en", "EUR", "ABC-1234")
_BOUNDS = {"minimum": ge, "exclusiveMinimum": gt, "maximum": le, "exclusiveMaximum": lt}
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


class Name(str):
    """The last step of a path if the place is the name of a member, not its value."""

    __slots__ = ()


Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """A value somewhere in the arguments, and the schema it has to match."""

    path: Path
    schema: dict[str, Any]

    def __str__(self) -> str:
        text = "".join(
            f"[{part}]" if isinstance(part, int) else f".<name {part}>" if isinstance(part, Name) else f".{part}"
            for part in self.path
        )
        return text.lstrip(".")

    def fits(self, text: str) -> bool:
        """Whether the schema lets `text` through, so that the tool itself would see it."""
        if self.schema["type"] != "string" or {"enum", "const"} & self.schema.keys():
            return False
        return self.schema.get("format") not in _FORMATS and _within(self.schema, text)


class Sample:
    """Arguments that should be valid, and the places where they can be changed.

    `variant` 0, 1, 2, ... takes one of several alternatives (`anyOf`, `enum`) after the other. `given` are arguments
    that the team knows to be valid.
    """

    def __init__(self, schema: dict[str, Any], variant: int = 0, given: Mapping[str, Any] | None = None) -> None:
        self.schema, self.variant = schema, variant
        self.places: list[Place] = []
        self.unguessed: list[str] = []
        self.value = self._build(schema, (), 0)
        if given is not None:
            self.value, self.unguessed = dict(given), []
            self.places = [place for place in self.places if self._has(place)]

    def at(self, place: Place) -> Any:
        """Return the value at `place`."""
        node = self.value
        for part in place.path:
            node = str(part) if isinstance(part, Name) else node[part]
        return node

    def _has(self, place: Place) -> bool:
        try:
            self.at(place)
        except (KeyError, IndexError, TypeError):
            return False
        return True

    def _build(self, schema: Any, path: Path, depth: int, nth: int = 0) -> Any:
        schema = self._resolved(schema if isinstance(schema, dict) else {}, depth)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if kind == "object":
            return self._object(schema, path, depth)
        if kind == "array" and not schema.get("examples"):
            return self._array(schema, path, depth)
        if path and kind != "null":
            self.places.append(Place(path, schema | {"type": kind}))
        return self._leaf(schema, kind, path, nth)

    def _resolved(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """Follow references and choose among alternatives; below the maximum depth, those that end the recursion."""
        for _ in range(20):
            if isinstance(reference := schema.get("$ref"), str):
                target = self.schema.get("$defs", {}).get(reference.rpartition("/")[2], {})
                schema = target | {name: part for name, part in schema.items() if name != "$ref"}
            elif choices := schema.get("anyOf") or schema.get("oneOf"):
                rest = {name: part for name, part in schema.items() if name not in {"anyOf", "oneOf", "default"}}
                real = [one for one in choices if one.get("type") != "null"] or choices
                if depth > _MAX_DEPTH:
                    nulls = [one for one in choices if one.get("type") == "null"]
                    real = nulls or [one for one in choices if "$ref" not in one] or choices
                schema = rest | real[(self.variant + max(0, depth - _MAX_DEPTH)) % len(real)]
            else:
                break
        return schema

    def _object(self, schema: dict[str, Any], path: Path, depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        members = {
            name: self._build(part, (*path, name), depth + 1)
            for name, part in schema.get("properties", {}).items()
            if name in required or depth <= _MAX_DEPTH
        }
        names, more = schema.get("propertyNames", {}), schema.get("additionalProperties", False)
        least, names = schema.get("minProperties", 0), names | {"type": "string"}
        wanted = max(least, min(len(members) + 1, schema.get("maxProperties", 1000)) if depth <= _MAX_DEPTH else 0)
        for nth in range(wanted - len(members) if more is not False else 0):
            name = self._leaf(names, "string", (*path, "member"), nth)
            members[name] = self._build(more, (*path, name), depth + 1)
            self.places.append(Place((*path, Name(name)), names))
        return members

    def _array(self, schema: dict[str, Any], path: Path, depth: int) -> list[Any]:
        items = [self._build(part, (*path, i), depth + 1) for i, part in enumerate(schema.get("prefixItems", ()))]
        least = schema.get("minItems", 0)
        wanted = max(1, least) if depth <= _MAX_DEPTH and schema.get("maxItems", 1) else least
        while "items" in schema and len(items) < wanted:
            items.append(self._build(schema["items"], (*path, len(items)), depth + 1, len(items)))
        return items

    def _leaf(self, schema: dict[str, Any], kind: str, path: Path, nth: int) -> Any:
        """Return a value that `schema` allows, another one for each `nth`: sets hold no value twice."""
        few: dict[str, list[Any]] = {"boolean": [True, False], "null": [None]}
        one = [schema["const"]] if "const" in schema else few.get(kind)
        if choices := schema.get("examples") or schema.get("enum") or one:
            return choices[(self.variant + nth) % len(choices)]
        made = _numbers(schema, whole=kind == "integer") if kind in {"integer", "number"} else _texts(schema)
        for value in islice(dict.fromkeys(made), nth, None):
            return value
        self.unguessed.append(str(Place(path, schema)))
        return _GUESSES[0]


def put(arguments: Any, path: Path, value: Any) -> Any:
    """Return `arguments` with another value at `path`, or another name if its last step is one."""
    changed = deepcopy(arguments)
    node = changed
    for part in path[:-1]:
        node = node[part]
    last = path[-1]
    if isinstance(last, Name):
        node[str(value)] = node.pop(str(last))
    else:
        node[last] = value
    return changed


def _within(schema: dict[str, Any], text: str) -> bool:
    if not schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 10**9):
        return False
    try:
        return "pattern" not in schema or re.search(schema["pattern"], text) is not None
    except re.error:  # the pattern is one of ECMAScript or Rust that Python cannot read: let the server decide
        return True


def _texts(schema: dict[str, Any]) -> Iterator[str]:
    if fixed := _FORMATS.get(schema.get("format", "")):
        yield fixed
        return
    default = [schema["default"]] if isinstance(schema.get("default"), str) else []
    least, most = schema.get("minLength", 0), schema.get("maxLength", 10**9)
    guesses = (*default, *_GUESSES, *("a" * length for length in range(least, least + 65)))
    yield from (guess for guess in dict.fromkeys(guesses) if _within(schema, guess))
    if "pattern" in schema and (found := _matching(schema["pattern"], least, most)) is not None:
        yield found


@cache
def _matching(pattern: str, least: int, most: int) -> str | None:
    """Return the simplest printable text that a pattern matches, the same every time."""
    quiet, fixed = settings(database=None, deadline=None, max_examples=200, phases=[Phase.generate]), Random(0)  # noqa: S311
    try:
        texts = st.from_regex(pattern, alphabet=_PRINTABLE)
        return find(texts, lambda text: least <= len(text) <= most and text.isprintable(), settings=quiet, random=fixed)
    except (HypothesisException, re.error):
        return None


def _numbers(schema: dict[str, Any], *, whole: bool) -> Iterator[int | float]:
    """Go up and down from 1 and from the bounds, and keep what is within them."""
    bounds = [(compare, schema[name]) for name, compare in _BOUNDS.items() if name in schema]
    ends = [bound for _, bound in bounds]
    unit = schema.get("multipleOf", 1) if whole else (max(ends) - min(ends) if len(ends) > 1 else 1) / 64 or 1
    for start, distance, sign in product((1, *ends), range(65), (1, -1)):
        value = (-(-start // unit) * unit if whole else start) + sign * distance * unit
        if all(compare(value, bound) for compare, bound in bounds):
            yield value
