"""Strict tool arguments: no unknown members, no coercion, and a refusal that names the field and the rule only."""

from typing import Any

import pydantic_core
from mcp.types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError

from ..mcp.sdk import FuncMetadata
from ..sinks.errors import InvalidInput
from ..sinks.hidden import find_hidden

_LONGEST_NAME = 64
_MOST_PROBLEMS = 500
_MOST_BLOCKS = 1000


class StrictMetadata(FuncMetadata):
    """The SDK's argument reader without its leniency.

    The SDK parses JSON out of strings, ignores unknown members and turns "7" into 7. A caller that sends the wrong
    type has misunderstood the tool; guessing what it meant is how checks and uses come to disagree.
    """

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them.

        Raises:
            ValidationError: if they do not match the published schema.
            InvalidInput: if too many of them do not, or they are not valid Unicode, which on stdio nothing has checked.
        """
        try:
            # As JSON, because the arguments were JSON: a date is a string there, and strictness knows it.
            document = pydantic_core.to_json(arguments_to_validate)
        except pydantic_core.PydanticSerializationError:
            raise InvalidInput("the arguments are not valid Unicode") from None
        try:
            return self.arg_model.model_validate_json(document, strict=True, extra="forbid").model_dump_one_level()
        except ValidationError as error:
            if error.error_count() <= _MOST_PROBLEMS:
                raise
            raise InvalidInput(rejection(error)) from None  # else the SDK makes a text of every problem

    def convert_result(self, result: Any) -> CallToolResult | InputRequiredResult:
        """Return what the function has returned as a result. A long list is one text, an item on each line: the SDK
        makes a block of every item, and each block passes five more conversions.
        """
        converted = super().convert_result(result)
        if isinstance(result, list) and isinstance(converted, CallToolResult) and len(converted.content) > _MOST_BLOCKS:
            texts = [block.text for block in converted.content if isinstance(block, TextContent)]
            if len(texts) == len(converted.content):
                converted.content = [TextContent(type="text", text="\n".join(texts))]
        return converted


def rejection(error: ValidationError) -> str:
    """Say which fields broke which rules, without the values and without links."""
    if (count := error.error_count()) > _MOST_PROBLEMS:  # pydantic can only list all of them: 7 µs each
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
    place = error.__traceback__ if isinstance(error, InvalidInput) else None
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place.tb_frame.f_code.co_name.strip("_") if place is not None else "schema"


def _shown(part: str | int) -> str:
    """A name that the caller may have chosen itself: short, and on one line."""
    text = str(part)[:_LONGEST_NAME]
    return text if text.isprintable() and find_hidden(text) is None else ascii(text)


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
