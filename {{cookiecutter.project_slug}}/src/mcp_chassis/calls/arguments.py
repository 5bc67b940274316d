"""Strict tool arguments: no unknown members, no coercion, and a refusal that names the field and the rule only."""

from collections.abc import Mapping
from typing import Any

import pydantic_core
from mcp.types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError

from ..mcp import sdk
from ..sinks.errors import InvalidInput
from ..sinks.hidden import find_hidden

_MAX_NAME = 64
_MAX_PROBLEMS = 500
_MAX_BLOCKS = 1000


class SchemaViolation(InvalidInput):
    """Arguments that break the schema in a way that pydantic was not asked about."""


class Arguments(dict[str, Any]):
    """The arguments of one call: encoded once and validated once, for all that need it."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.encoded = {name: _json(value) for name, value in given.items()}
        """Each value as JSON. None: it is not valid Unicode, which nothing has checked on stdio."""
        self.validated: dict[str, Any] | None = None
        """As the function takes them, once that is known."""

    @property
    def document(self) -> bytes:
        """All of them as one JSON object.

        Raises:
            SchemaViolation: if they are not valid Unicode.
        """
        members = []
        for name, value in self.encoded.items():
            member = _json(name)
            if member is None or value is None:
                raise SchemaViolation("the arguments are not valid Unicode")
            members.append(member + b":" + value)
        return b"{" + b",".join(members) + b"}"


class StrictMetadata(sdk.FuncMetadata):
    """The SDK's argument reader without its leniency.

    The SDK parses JSON out of strings, ignores unknown members and turns "7" into 7. A caller that sends the wrong
    type has misunderstood the tool; guessing what it meant is how checks and uses come to disagree.
    """

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them.

        Raises:
            ValidationError: if they do not match the published schema.
            SchemaViolation: if they are not valid Unicode.
        """
        arguments = arguments_to_validate
        if not isinstance(arguments, Arguments):
            arguments = Arguments(arguments)
        if arguments.validated is None:
            # As JSON, because the arguments were JSON: a date is a string there, and strictness knows it.
            model = self.arg_model.model_validate_json(arguments.document, strict=True, extra="forbid")
            arguments.validated = model.model_dump_one_level()
        return arguments.validated

    def convert_result(self, result: Any) -> CallToolResult | InputRequiredResult:
        """Return what the function has returned as a result. A long list is one text, an item on each line: the SDK
        makes a block of every item, and each block passes five more conversions.
        """
        converted = super().convert_result(result)
        if isinstance(result, list) and isinstance(converted, CallToolResult) and len(converted.content) > _MAX_BLOCKS:
            texts = [block.text for block in converted.content if isinstance(block, TextContent)]
            if len(texts) == len(converted.content):
                converted.content = [TextContent(type="text", text="\n".join(texts))]
        return converted


def rejection(error: ValidationError) -> str:
    """Say which fields broke which rules, without the values and without links."""
    if (count := error.error_count()) > _MAX_PROBLEMS:  # pydantic can only list all of them: 7 µs each
        return f"{count} values break their rules, too many to list"
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        field = ".".join(_shown(part) for part in problem["loc"]) or "arguments"
        problems.append(f"{field}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems[:10])


def broken_rule(error: BaseException) -> str:
    """Say for logs and events why arguments were refused: `schema`, or the function that did.

    The message is for the caller only: it may repeat a value.
    """
    if not isinstance(error, InvalidInput) or isinstance(error, SchemaViolation) or error.__traceback__ is None:
        return "schema"
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    return place.tb_frame.f_code.co_name.strip("_")


def closed_schema(schema: Any) -> Any:
    """Return `schema` with every object in it closed to further members."""
    if isinstance(schema, list):
        return [closed_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: closed_schema(part) for name, part in schema.items()}
    if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _json(value: object) -> bytes | None:
    try:
        return pydantic_core.to_json(value)
    except ValueError:  # half of a surrogate pair
        return None


def _shown(part: str | int) -> str:
    """Return a name that the caller may have chosen: short, and on one line."""
    text = str(part)[:_MAX_NAME]
    return text if text.isprintable() and find_hidden(text) is None else ascii(text)
