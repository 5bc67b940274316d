"""What the official suite expects to find on a server: declared as the team's own tools are, served by the same guard.

The names are the suite's. A scenario that is refused here is refused for the team's tools as well.
"""

import asyncio
import base64
import json
from typing import Annotated, Any

from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from mcp_chassis import prompt, resource, tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = base64.b64encode(b"RIFF" + (36).to_bytes(4, "little") + b"WAVEfmt " + bytes(24)).decode()

AnyContext = Context[Any, Any]
harmless = tool(read_only=True)


def text(words: str) -> TextContent:
    """Return a block of text."""
    return TextContent(type="text", text=words)


def image() -> ImageContent:
    """Return a picture of one dot."""
    return ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, words: str, mime_type: str = "text/plain") -> EmbeddedResource:
    """Return a resource within a result."""
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return EmbeddedResource(type="resource", resource=contents)


# --- results of every kind --------------------------------------------------------------------------------------------


@harmless
def test_simple_text() -> str:
    """Return a text."""
    return "This is a simple text response for testing."


@harmless
def test_image_content() -> list[ImageContent]:
    """Return a picture."""
    return [image()]


@harmless
def test_audio_content() -> list[AudioContent]:
    """Return a sound."""
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


@harmless
def test_embedded_resource() -> list[EmbeddedResource]:
    """Return a resource."""
    return [embedded("test://embedded-resource", "This is an embedded resource content.")]


@harmless
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Return a text, a picture and a resource."""
    data = embedded("test://mixed-content-resource", '{"test": "data", "value": 123}', "application/json")
    return [text("Multiple content types test:"), image(), data]


@harmless
def test_error_handling() -> str:
    """Fail."""
    raise ToolError("This tool intentionally returns an error for testing")


@harmless
async def test_tool_with_logging(context: AnyContext) -> str:
    """Send log messages while running."""
    for what in ("started", "processing data", "completed"):
        await context.info(f"Tool execution {what}")
    return "Logged."


@harmless
async def test_logging_tool(context: AnyContext) -> str:
    """Send log messages without being asked for them."""
    return await test_tool_with_logging(context)


@harmless
async def test_tool_with_progress(context: AnyContext) -> str:
    """Report progress while running."""
    for done in (0, 50, 100):
        await context.report_progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(0.05)  # the suite looks for reports that arrive one by one
    return "Reported."


@harmless
def test_x_mcp_header(
    region: Annotated[str, Field(max_length=50, json_schema_extra={"x-mcp-header": "Region"})] = "none",  # noqa: PT028
) -> str:
    """Take an argument that clients repeat in a header."""
    return region


# --- asking the client, in the revisions with sessions ----------------------------------------------------------------


class Response(BaseModel):
    """A form with one field."""

    response: str = Field(description="User's response")


@harmless
async def test_sampling(prompt: Annotated[str, Field(max_length=1000)], context: AnyContext) -> str:
    """Ask the client's model."""
    result = await context.session.create_message(
        messages=[SamplingMessage(role="user", content=text(prompt))],
        max_tokens=100,
        related_request_id=context.request_id,
    )
    return f"LLM response: {result.content}"


@harmless
async def test_elicitation(message: Annotated[str, Field(max_length=1000)], context: AnyContext) -> str:
    """Ask the client's user."""
    result = await context.elicit(message, Response)
    return f"User response: {result.action}"


class Defaults(BaseModel):
    """A form that is filled in already."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field("active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


@harmless
async def test_elicitation_sep1034_defaults(context: AnyContext) -> str:
    """Ask by a form that is filled in already."""
    return f"Elicitation completed: {(await context.elicit('Are these right?', Defaults)).action}"


@harmless
async def test_elicitation_sep1330_enums(context: AnyContext) -> str:
    """Ask by a form with choices."""
    return f"Elicitation completed: {(await context.elicit('Which one?', Defaults)).action}"


# --- asking the client, in 2026-07-28 ---------------------------------------------------------------------------------


def form(message: str, **fields: str) -> ElicitRequest:
    """Return a question with required fields, given by name and type."""
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(message: str) -> CreateMessageRequest:
    """Return a question for the client's model."""
    messages = [SamplingMessage(role="user", content=text(message))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=100))


def answers(context: AnyContext) -> dict[str, Any]:
    """Return what the client has answered so far."""
    return dict(context.input_responses or {})


def field(answer: object, name: str) -> object:
    """Return one field of a filled form, or None."""
    return answer.content.get(name) if isinstance(answer, ElicitResult) and answer.content else None


@harmless
async def test_input_required_result_elicitation(context: AnyContext) -> str | InputRequiredResult:
    """Ask for a name and greet."""
    if (name := field(answers(context).get("user_name"), "name")) is not None:
        return f"Hello, {name}!"
    return InputRequiredResult(input_requests={"user_name": form("What is your name?", name="string")})


@harmless
async def test_streaming_elicitation(context: AnyContext) -> str | InputRequiredResult:
    """Ask for a name and greet."""
    return await test_input_required_result_elicitation(context)


@harmless
async def test_input_required_result_sampling(context: AnyContext) -> str | InputRequiredResult:
    """Ask the client's model."""
    answer = answers(context).get("capital_question")
    if isinstance(answer, CreateMessageResult):
        return f"The model said: {answer.content}"
    return InputRequiredResult(input_requests={"capital_question": sample("What is the capital of France?")})


@harmless
async def test_input_required_result_list_roots(context: AnyContext) -> str | InputRequiredResult:
    """Ask for the client's roots."""
    answer = answers(context).get("client_roots")
    if isinstance(answer, ListRootsResult):
        return f"There are {len(answer.roots)} roots."
    return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})


@harmless
async def test_input_required_result_request_state(context: AnyContext) -> str | InputRequiredResult:
    """Ask, and know by the state that the answer belongs to the question."""
    if "confirm" in answers(context) and context.request_state == "asked":
        return "state-ok: confirmed"
    return InputRequiredResult(input_requests={"confirm": form("Please confirm", ok="boolean")}, request_state="asked")


@harmless
async def test_input_required_result_tampered_state(context: AnyContext) -> str | InputRequiredResult:
    """Ask with a state, which the SDK seals."""
    return await test_input_required_result_request_state(context)


@harmless
async def test_input_required_result_multiple_inputs(context: AnyContext) -> str | InputRequiredResult:
    """Ask three things at once."""
    questions: dict[str, InputRequest] = {
        "user_name": form("What is your name?", name="string"),
        "greeting": sample("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    if questions.keys() <= answers(context).keys():
        return "All inputs were received."
    return InputRequiredResult(input_requests=questions, request_state="several")


@harmless
async def test_input_required_result_multi_round(context: AnyContext) -> str | InputRequiredResult:
    """Ask two things, one after the other."""
    state = json.loads(context.request_state or "{}")
    given = answers(context)
    if "name" in state and "step2" in given:
        return f"{state['name']} likes {field(given['step2'], 'color')}."
    if state and "step1" in given:
        question = form("Step 2: What is your favorite color?", color="string")
        state = {"round": 2, "name": field(given["step1"], "name")}
        return InputRequiredResult(input_requests={"step2": question}, request_state=json.dumps(state))
    question = form("Step 1: What is your name?", name="string")
    return InputRequiredResult(input_requests={"step1": question}, request_state=json.dumps({"round": 1}))


@harmless
async def test_input_required_result_capabilities(context: AnyContext) -> InputRequiredResult:
    """Ask what the client is able to answer."""
    able = context.client_capabilities
    questions: dict[str, InputRequest] = {}
    if able is not None and able.sampling is not None:
        questions["sample"] = sample("Say hello")
    if able is not None and able.elicitation is not None:
        questions["ask"] = form("What is your name?", name="string")
    return InputRequiredResult(input_requests=questions, request_state="able")


@harmless
async def test_missing_capability(context: AnyContext) -> str:
    """Insist on a client with a model."""
    able = context.client_capabilities
    if able is None or able.sampling is None:
        needed = {"requiredCapabilities": {"sampling": dict[str, Any]()}}
        raise MCPError(code=MISSING_REQUIRED_CLIENT_CAPABILITY, message="A client with sampling is needed", data=needed)
    return "The client can sample."


@harmless
async def test_trigger_tool_change(context: AnyContext) -> str:
    """Tell listeners that the tools have changed."""
    await context.notify_tools_changed()
    return "Told."


@harmless
async def test_trigger_prompt_change(context: AnyContext) -> str:
    """Tell listeners that the prompts have changed."""
    await context.notify_prompts_changed()
    return "Told."


# --- resources and prompts --------------------------------------------------------------------------------------------


@resource("test://static-text")
def static_text() -> str:
    """Return a text."""
    return "This is the content of the static text resource."


@resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """Return a picture."""
    return base64.b64decode(PNG)


@resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:  # noqa: A002  (the suite names it)
    """Return a text that depends on the address."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@prompt()
def test_simple_prompt() -> list[UserMessage]:
    """Return a text."""
    return [UserMessage(text("This is a simple prompt for testing."))]


@prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    """Return a text that depends on arguments."""
    return [UserMessage(text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]


@prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """Return a resource."""
    return [UserMessage(embedded(resourceUri, "Embedded resource content for testing.")), UserMessage(text("Use it."))]


@prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """Return a picture."""
    return [UserMessage(image()), UserMessage(text("Please analyze the image above."))]


@prompt()
async def test_input_required_result_prompt(context: AnyContext) -> list[UserMessage] | InputRequiredResult:
    """Ask what the prompt should be about."""
    answer = answers(context).get("user_context")
    if answer is not None:
        return [UserMessage(text(f"Use the following context: {field(answer, 'context')}"))]
    question = form("What context should the prompt use?", context="string")
    return InputRequiredResult(input_requests={"user_context": question})


def fixture_server() -> GuardedServer:
    """Return the guarded server with all of this."""
    mine = {name: thing for name, thing in globals().items() if name.startswith("test_")}
    prompts = [thing for name, thing in mine.items() if "prompt" in name and name != "test_trigger_prompt_change"]
    tools = [thing for thing in mine.values() if thing not in prompts]
    return GuardedServer(
        "conformance",
        version="1",
        tools=tools,
        resources=[static_text, static_binary, template],
        prompts=prompts,
        events=EventLog(),
    )
