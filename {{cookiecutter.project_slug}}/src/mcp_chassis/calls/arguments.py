"""Strict tool arguments: no unknown members, no coercion, and a refusal that names the field and the rule only."""

import re
from collections.abc import Mapping
from typing import Any

import pydantic_core
from mcp.types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError
from pydantic_core import SchemaValidator

from ..mcp import sdk
from ..sinks.errors import InvalidInput
from ..sinks.hidden import find_hidden

_MAX_NAME = 64
_MAX_PROBLEMS = 500
_MAX_BLOCKS = 1000
_EXACT = 2.0**53  # below it, every integer is a float of its own
_PERHAPS_WHOLE = re.compile(rb"[0-9](?:\.0|[eE])")


class SchemaViolation(InvalidInput):
    """Arguments that break the schema in a way that pydantic was not asked about."""


class InvalidResult(Exception):
    """A result breaks its output schema. The message says where and how, without the value."""


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
        """All of them as one JSON object; `SchemaViolation`: they are not valid Unicode."""
        members = []
        for name, given in self.encoded.items():
            is_whole = given is not None and not isinstance(self[name], str) and _PERHAPS_WHOLE.search(given)
            member, value = _json(name), _json(_whole(self[name])) if is_whole else given
            if member is None or value is None:
                raise SchemaViolation("the arguments are not valid Unicode")
            members.append(member + b":" + value)
        return b"{" + b",".join(members) + b"}"


class StrictMetadata(sdk.FuncMetadata):
    """The SDK's argument reader without its leniency.

    The SDK parses JSON out of strings, ignores unknown members and turns "7" into 7. A caller that sends the wrong
    type has misunderstood the tool; guessing what it meant is how checks and uses come to disagree.
    """

    fields: dict[str, str]  # of the model, by parameter: an alias, or a name that pydantic reserves, has another one
    validator: SchemaValidator  # accepts exactly what the published schema describes
    returns_text: bool  # whether the function declares plain text: nothing has to be converted then
    may_ask: bool  # whether the function declares that it may ask for more input, itself or by `Resolve`

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        if self.output_model is not None:  # the SDK publishes what the type reads, and not what it writes
            writer, strict = self._output_adapter(self.output_model), sdk.StrictJsonSchema
            self.output_schema = sdk._inline_root_ref(writer.json_schema(mode="serialization", schema_generator=strict))

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them; a `ValidationError` or `SchemaViolation` says why not."""
        arguments = arguments_to_validate
        if not isinstance(arguments, Arguments):
            arguments = Arguments(arguments)
        if arguments.validated is None:
            # As JSON, because the arguments were JSON: a date is a string there, and strictness knows it.
            model = self.validator.validate_json(
                arguments.document, strict=True, extra="forbid", by_alias=True, by_name=False
            )
            arguments.validated = {name: getattr(model, field) for name, field in self.fields.items()}
        return arguments.validated

    def convert_result(self, result: Any) -> CallToolResult | InputRequiredResult:
        """Return as a result what the function has returned; `InvalidResult`: it is not of the declared type.

        A long list is one text, an item on each line: the SDK makes a block of every item, and each block passes five
        more conversions.
        """
        if self.returns_text and type(result) is str:
            text = TextContent(type="text", text=result)
            return CallToolResult(content=[text], structured_content={"result": result})
        if isinstance(result, InputRequiredResult) and self.output_model is not None and not self.may_ask:
            raise InvalidResult("it is an InputRequiredResult, which the function does not declare")
        try:
            converted = super().convert_result(result)
        except ValidationError as error:
            raise InvalidResult(rejection(error)) from error
        if isinstance(result, CallToolResult) and result.structured_content is not None:
            structure = pydantic_core.to_jsonable_python(result.structured_content)
            return result.model_copy(update={"structured_content": structure})
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
    """Say for logs and events why arguments were refused: `schema`, or the function that did. No value is in it."""
    if not isinstance(error, InvalidInput) or isinstance(error, SchemaViolation) or error.__traceback__ is None:
        return "schema"
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    return place.tb_frame.f_code.co_name.strip("_")


def _whole(value: Any) -> Any:
    """Return a JSON value with 7 for 7.0: JSON Schema takes both for an integer. Larger ones stay: 1e23 is not the
    integer that its float is, and 1e308 has 309 digits to write and to read.
    """
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    return int(value) if isinstance(value, float) and abs(value) < _EXACT and value.is_integer() else value


def _json(value: object) -> bytes | None:
    try:
        return pydantic_core.to_json(value)
    except ValueError:  # half of a surrogate pair
        return None


def _shown(part: str | int) -> str:
    """Return a name that the caller may have chosen: short, and on one line."""
    text = str(part)[:_MAX_NAME]
    return text if text.isprintable() and find_hidden(text) is None else ascii(text)
