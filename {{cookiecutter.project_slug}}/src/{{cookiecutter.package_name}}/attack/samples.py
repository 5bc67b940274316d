"""Valid arguments for a published JSON schema, and the places in them where an attacker's value can go.

Where a pattern cannot be guessed, `Field(examples=["..."])` says what fits it: examples are taken first.
"""

import re
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

_DEEPEST = 6
_FORMATS = {
    "date": "2026-07-28",
    "date-time": "2026-07-28T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "ipvanyaddress": "127.0.0.1",
    "ipvanynetwork": "127.0.0.0/8",
    "json-string": "{}",
    "byte": "YQ==",
    "base64url": "YQ==",
}
_LOOSE_FORMATS = {"email": "a@localhost.test", "uri": "https://localhost/", "url": "https://localhost/"}
_GUESSES = (
    *("sample", "SAMPLE", "Sample", "s", "S", "1", "12", "123", "12345", "2026", "a1", "A1", "AB-123", "ABC-1234"),
    *("1.0", "1.0.0", "v1.0.0", "sample.txt", "sample.md", "/sample", "sample/sample", "a@localhost.test", "#aabbcc"),
    *("https://localhost/", "http://localhost/", "+491234567", "+", "-", "_", "", "en", "en-US", "DE", "EUR", "main"),
    *_FORMATS.values(),
)


class Name(str):
    """The last step of a path when the place is the name of a member and not its value."""

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
        if self.schema.get("type") != "string" or {"enum", "const"} & self.schema.keys():
            return False
        if self.schema.get("format") in _FORMATS:
            return False
        return _within(self.schema, text)


@dataclass
class Sample:
    """Arguments that should be valid, and where they can be changed."""

    schema: dict[str, Any]
    turn: int = 0
    """Which of several alternatives (`anyOf`, `enum`) is taken: try 0, 1, 2, ..."""
    places: list[Place] = field(default_factory=list)
    unguessed: list[str] = field(default_factory=list)
    value: Any = None

    def __post_init__(self) -> None:
        self.value = self._build(self.schema, (), 0)

    def at(self, place: Place) -> Any:
        """Return the value at `place`."""
        node = self.value
        for part in place.path:
            node = str(part) if isinstance(part, Name) else node[part]
        return node

    def _build(self, schema: Any, path: Path, depth: int) -> Any:
        schema = self._resolved(schema if isinstance(schema, dict) else {}, depth)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null")
        if kind == "object" or "properties" in schema:
            return self._object(schema, path, depth)
        if kind == "array" and not schema.get("examples"):
            return self._array(schema, path, depth)
        if path and kind != "null":
            self.places.append(Place(path, schema if kind else schema | {"type": "string"}))
        return self._leaf(schema, kind, path)

    def _resolved(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """Follow references and choose among alternatives."""
        for _ in range(20):
            if isinstance(reference := schema.get("$ref"), str):
                target = self.schema.get("$defs", {}).get(reference.rpartition("/")[2], {})
                schema = target | {name: part for name, part in schema.items() if name != "$ref"}
            elif choices := schema.get("anyOf") or schema.get("oneOf"):
                real = [one for one in choices if one.get("type") != "null"] or choices
                if depth > _DEEPEST and len(real) < len(choices):
                    return {"type": "null"}
                rest = {name: part for name, part in schema.items() if name not in {"anyOf", "oneOf", "default"}}
                schema = rest | real[self.turn % len(real)]
            elif parts := schema.get("allOf"):
                schema = {name: part for name, part in schema.items() if name != "allOf"}
                for part in parts:
                    schema |= part
            else:
                break
        return schema

    def _object(self, schema: dict[str, Any], path: Path, depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        members = {
            name: self._build(part, (*path, name), depth + 1)
            for name, part in schema.get("properties", {}).items()
            if name in required or depth <= _DEEPEST
        }
        more = schema.get("additionalProperties", False)
        if more is not False and depth <= _DEEPEST and len(members) < schema.get("maxProperties", 1000):
            names = {"type": "string"} | schema.get("propertyNames", {})
            name = self._text(names, (*path, "member"))
            members[name] = self._build(more, (*path, name), depth + 1)
            self.places.append(Place((*path, Name(name)), names))
        return members

    def _array(self, schema: dict[str, Any], path: Path, depth: int) -> list[Any]:
        items = [self._build(part, (*path, i), depth + 1) for i, part in enumerate(schema.get("prefixItems", ()))]
        least = schema.get("minItems", 0)
        wanted = max(1, least) if depth <= _DEEPEST and schema.get("maxItems", 1) else least
        while "items" in schema and len(items) < wanted:
            items.append(self._build(schema["items"], (*path, len(items)), depth + 1))
        return items

    def _leaf(self, schema: dict[str, Any], kind: Any, path: Path) -> Any:
        if schema.get("examples"):
            return schema["examples"][self.turn % len(schema["examples"])]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][self.turn % len(schema["enum"])]
        if kind in {"integer", "number"}:
            return _number(schema, whole=kind == "integer")
        return {"boolean": True, "null": None}[kind] if kind in {"boolean", "null"} else self._text(schema, path)

    def _text(self, schema: dict[str, Any], path: Path) -> str:
        known = _FORMATS | _LOOSE_FORMATS
        if (name := schema.get("format")) in known:
            return known[name]
        default: list[str] = [schema["default"]] if isinstance(schema.get("default"), str) else []
        lengths = {*range(1, 65), schema.get("minLength", 0)}
        repeats = (letter * length for letter in "aA1" for length in sorted(lengths))
        guesses: list[str] = [*_GUESSES, *default, *repeats]
        for guess in guesses:
            if _within(schema, guess):
                return guess
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


def _number(schema: dict[str, Any], *, whole: bool) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf", 1 if whole else 0)
    if low is None:
        value = 1 if high is None else min(1, high - step if "exclusiveMaximum" in schema else high)
    elif "exclusiveMinimum" in schema:
        value = low + (step or ((high - low) / 2 if high is not None else 1))
    else:
        value = max(low, 1) if high is None or high >= 1 else low
    if step and value % step:
        value += step - value % step
    return int(value) if whole else float(value)
