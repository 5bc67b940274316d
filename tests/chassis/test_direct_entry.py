"""The direct entry against the SDK's own: the answers are the same, for older clients byte for byte."""

import base64
import itertools
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, TextContent
from pydantic import BaseModel, Field

from mcp_chassis import prompt, resource, tool
from mcp_chassis.auth.principal import STDIO, Principal
from mcp_chassis.calls.output import Output
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp import endpoint as mcp_endpoint
from mcp_chassis.mcp import guarded_server as guard
from mcp_chassis.mcp import sdk
from mcp_chassis.mcp.endpoint import McpEndpoint, SessionManager
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.middleware.request_body import RequestBodyLayer

from .support.asgi import Answer, ask, http_scope

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients of these tests have left when they have sent their request."""
    monkeypatch.setattr(mcp_endpoint, "_WATCH_AFTER", 600)


META = "io.modelcontextprotocol/"
NEWER, OLDER = "2026-07-28", "2025-11-25"
BOTH = "application/json, text/event-stream"


class Point(BaseModel):
    """Structured output with everything that serialisers disagree on."""

    x: float
    label: str | None = None


@tool(read_only=True)
async def greet(name: Annotated[str, Field(max_length=50)] = "World") -> str:
    """Greet a person."""
    return f"Grüße, {name}! \u2028 </script> \U0001f600"


@tool(read_only=True)
def point(x: int) -> Point:
    """Return structured output."""
    return Point(x=x / 3)


@tool(read_only=True)
async def numbers() -> dict[str, Any]:
    """Return what JSON has no words for."""
    return {"nan": math.nan, "infinity": math.inf, "none": None, "big": 2**70, "float": 1e300}


@tool(read_only=True)
async def refuse() -> str:
    """Fail as expected."""
    raise ToolError("no")


@tool(read_only=True)
async def crash() -> str:
    """Fail."""
    raise RuntimeError("secret")


@tool(read_only=True)
async def protocol_error() -> str:
    """Fail with an error of the protocol."""
    raise MCPError(code=-32602, message="no", data={"why": None})


@tool(read_only=True)
async def request_of(ctx: Context[Any, Any]) -> str:
    """Return what a tool learns of the request."""
    request = ctx.request_context.request
    assert request is not None
    seen = ctx.request_context
    await ctx.report_progress(1, 2)
    return json.dumps(
        {
            "body": (await request.body()).decode(),
            "headers": sorted(request.headers.items()),
            "id": seen.request_id,
            "version": seen.protocol_version,
            "meta": repr(seen.meta),
            "client": repr(seen.session.client_params),
        }
    )


@tool()
async def erase(path: str) -> str:
    """Ask before doing it."""
    return path


@tool(scopes=["admin"], read_only=True)
async def secret() -> str:
    """Be for some only."""
    return "secret"


@resource("test://fixed", mime_type="text/plain")
def fixed() -> str:
    """Return a text."""
    return "text ü"


@resource("test://{name}/broken")
def broken(name: str) -> str:
    """Fail."""
    raise RuntimeError(name)


@prompt()
def ask_for(topic: str) -> str:
    """Return a prompt."""
    return f"About {topic}"


@prompt()
def broken_prompt(topic: str) -> str:
    """Fail."""
    raise RuntimeError(topic)


@tool(read_only=True)
async def ask_unannounced() -> str:
    """Ask for more than the function declares."""
    return InputRequiredResult(request_state="state")  # type: ignore[return-value]


@tool(read_only=True)
async def grüße() -> str:  # noqa: PLC2401
    """Greet in German."""
    return "Grüße"


class Anything(BaseModel):
    """A structure of any members."""

    model_config = {"extra": "allow"}


@tool(read_only=True)
async def not_a_number() -> Annotated[CallToolResult, Anything]:
    """Return what JSON has no words for, where no schema looks."""
    block = TextContent(type="text", text="a")
    return CallToolResult(content=[block], is_error=True, structured_content={"a": math.nan, "b": [math.inf]})


TOOLS: list[Callable[..., Any]] = [
    *(greet, point, numbers, refuse, crash, protocol_error, request_of, erase, secret, ask_unannounced),
    *(grüße, not_a_number),
]


@dataclass
class Entries:
    """A server with two ways in, and how often the direct one was taken."""

    app: RequestBodyLayer
    mcp: GuardedServer
    is_direct: bool = True
    taken: int = 0


UNMARKED = Output(events=EventLog(), mark=False)  # no two marks are the same


@asynccontextmanager
async def both_entries(kind: type[GuardedServer] = GuardedServer) -> AsyncIterator[Entries]:
    """Start the server behind both."""
    mcp = kind(
        "test",
        tools=TOOLS,
        resources=[fixed, broken],
        prompts=[ask_for, broken_prompt],
        events=EventLog(),
        output=UNMARKED,
    )
    mcp.streamable_http_app()
    manager = SessionManager(mcp.session_manager.app, guarded=mcp, stateless=True)
    layer = RequestBodyLayer(McpEndpoint(manager), events=EventLog(), endpoint="/mcp", max_bytes=100_000)
    entries = Entries(layer, mcp)
    async with manager.run():
        entry: Any = manager._direct
        serve = entry.serve

        async def counted(*args: Any) -> bool:
            served = entries.is_direct and await serve(*args)
            entries.taken += served
            return served

        entry.serve = counted
        yield entries


Headers = list[tuple[bytes, bytes]]


def request(method: str, params: Any, version: str | None, **message: Any) -> tuple[dict[str, Any], Headers]:
    """Return a message and its headers, as a client of that version sends them."""
    headers = {"accept": BOTH, "content-type": "application/json"}
    if version is not None:
        headers["mcp-protocol-version"] = version
    if version == NEWER:
        meta = {f"{META}protocolVersion": NEWER, f"{META}clientCapabilities": {"elicitation": {}}}
        params = params | {"_meta": meta | params.get("_meta", {})} if isinstance(params, dict) else params
        headers["mcp-method"] = method
        name = (params or {}).get("uri" if method == "resources/read" else "name")
        if isinstance(name, str):
            headers["mcp-name"] = name
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params} | message
    return {name: value for name, value in body.items() if value is not None}, [
        (name.encode(), value.encode("latin-1")) for name, value in headers.items()
    ]


async def compare(
    entries: Entries, message: dict[str, Any], headers: Headers, *, caller: Principal | None = STDIO
) -> Answer:
    """Send it both ways and return the answer, which is one."""
    body = json.dumps(message).encode()
    answers = []
    for entries.is_direct in (True, False):
        scope = http_scope("/mcp", method="POST", headers=headers)
        answers.append(await ask(entries.app, scope, [body], caller=caller))
    one, other = answers
    assert one.status == other.status
    assert reading(one.body) == reading(other.body)
    # Seals are random, and for newer clients the SDK writes what is not ASCII as escapes.
    if b"requestState" not in one.body and (b"mcp-protocol-version", NEWER.encode()) not in headers:
        assert one.body == other.body
        assert sorted(one.headers) == sorted(other.headers)
    else:
        assert without_length(one) == without_length(other)
    return one


def reading(body: bytes) -> str:
    """Return what an answer says, its members in their order, without what is random in it: the seal of a question."""
    try:
        document = json.loads(body)
    except ValueError:
        return repr(body)
    if isinstance(document, dict) and isinstance(result := document.get("result"), dict) and "requestState" in result:
        assert result.pop("requestState")
    return json.dumps(document)


def without_length(answer: Answer) -> Headers:
    """Return the headers of an answer but for the one that differs with its bytes."""
    return sorted(header for header in answer.headers if header[0] != b"content-length")


CALLS: list[tuple[str, Any]] = [
    ("tools/list", {}),
    ("tools/list", None),
    ("tools/list", {"cursor": "x"}),
    ("tools/list", {"cursor": 1}),
    *(("tools/call", {"name": function.__name__, "arguments": {}}) for function in TOOLS),
    ("tools/call", {"name": "greet", "arguments": {"name": "Ann"}}),
    ("tools/call", {"name": "greet", "arguments": {"name": "\u0000ü\U0001f600"}}),
    ("tools/call", {"name": "greet", "arguments": {"name": 7}}),
    ("tools/call", {"name": "greet", "arguments": {"name": "x" * 51}}),
    ("tools/call", {"name": "greet", "arguments": {"other": 7}}),
    ("tools/call", {"name": "greet", "arguments": [1]}),
    ("tools/call", {"name": "greet", "arguments": None}),
    ("tools/call", {"name": "greet"}),
    ("tools/call", {"name": "point", "arguments": {"x": 1}}),
    ("tools/call", {"name": "erase", "arguments": {"path": "a"}}),
    ("tools/call", {"name": "erase", "arguments": {"path": "a"}, "requestState": "forged"}),
    ("tools/call", {"name": "erase", "arguments": {"path": "a"}, "requestState": 1}),
    ("tools/call", {"name": "request_of", "_meta": {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}}),
    ("tools/call", {"name": "nothing", "arguments": {}}),
    ("tools/call", {"name": 7, "arguments": {}}),
    ("tools/call", {"arguments": {}}),
    ("tools/call", {}),
    ("tools/call", None),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "test://fixed"}),
    ("resources/read", {"uri": "test://some/broken"}),
    ("resources/read", {"uri": "test://nothing"}),
    ("resources/read", {"uri": "no uri"}),
    ("resources/read", {"uri": 7}),
    ("resources/read", {}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "ask_for", "arguments": {"topic": "ü"}}),
    ("prompts/get", {"name": "ask_for", "arguments": {}}),
    ("prompts/get", {"name": "ask_for", "arguments": {"topic": 7}}),
    ("prompts/get", {"name": "broken_prompt", "arguments": {"topic": "x"}}),
    ("prompts/get", {"name": "nothing"}),
    ("prompts/get", {}),
    ("ping", {}),
    ("completion/complete", {}),
    ("logging/setLevel", {"level": "debug"}),
    ("initialize", {"protocolVersion": OLDER, "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}),
    ("server/discover", {}),
    ("resources/subscribe", {"uri": "test://fixed"}),
    ("tasks/get", {"taskId": "1"}),
    ("notifications/initialized", {}),
    ("no/such/method", {}),
    ("", {}),
]


@pytest.mark.parametrize("version", [NEWER, OLDER, "2025-06-18", "2025-03-26", "2024-11-05", None, "2030-01-01", ""])
async def test_every_method_has_the_same_answer_either_way(version: str | None) -> None:
    async with both_entries() as entries:
        for method, params in CALLS:
            await compare(entries, *request(method, params, version))
        known = version not in {"2030-01-01", ""}
        assert (entries.taken > len(CALLS) / 3) == known, "the direct entry must have been compared, not the SDK's"


@pytest.mark.parametrize("version", [NEWER, OLDER])
async def test_ids_and_further_members_make_no_difference(version: str) -> None:
    async with both_entries() as entries:
        for message_id in (0, 1, -1, 2**60, 2**70, "", "a", "ü\u2028", "1", 10**39):
            await compare(entries, *request("tools/list", {}, version, id=message_id))
        message, headers = request("tools/list", {}, version, extra=1, result={}, error={"code": 1})
        await compare(entries, message, headers)
        assert entries.taken
        del message["id"]
        await compare(entries, message, headers)
        for params in ({"extra": 1}, {"_meta": {"a": None}}, {"_meta": 1}, {"_meta": None}, {"name": None}):
            message, headers = request("tools/list", {}, version)
            await compare(entries, message | {"params": params}, headers)
        message, headers = request("tools/call", {"name": "greet", "arguments": {"name": "Ann"}}, version)
        more: list[dict[str, Any]] = [
            {"error": {"code": 1, "message": "x"}},
            {"result": {}},
            {"error": None},
            {"other": 1},
        ]
        for further in more:
            await compare(entries, message | further, headers)
        answer = {"jsonrpc": "2.0", "id": 1, "result": {}}
        await compare(entries, answer, headers)
        await compare(entries, {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "a"}}, headers)


@pytest.mark.parametrize("version", [NEWER, OLDER])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("accept", value) for value in ("application/json", "*/*", "text/html", "", "text/*", "application/*;q=0.1")),
        *(("accept", value) for value in (None, "text/event-stream", "APPLICATION/JSON , text/event-stream")),
        *(("mcp-protocol-version", value) for value in (None, NEWER, OLDER, " " + NEWER, "x")),
        *(("mcp-method", value) for value in (None, "tools/list", "TOOLS/CALL", "")),
        *(("mcp-name", value) for value in (None, "point", "", "=?base64?Z3JlZXQ=?=", "=?base64?!?=")),
        *(("mcp-session-id", value) for value in ("", "some")),
        *(("mcp-param-name", value) for value in ("", "Ann")),
        ("last-event-id", "1"),
    ],
    ids=repr,
)
async def test_headers_make_no_difference(version: str, name: str, value: str | None) -> None:
    message, headers = request("tools/call", {"name": "greet", "arguments": {"name": "Ann"}}, version)
    changed = [header for header in headers if header[0] != name.encode()]
    added = [(name.encode(), value.encode())] if value is not None else []
    async with both_entries() as entries:
        await compare(entries, message, changed + added)
        await compare(entries, message, headers + added)


_VALUES: dict[str, list[Any]] = {
    "protocolVersion": [OLDER, NEWER, "x", 7, None],
    "clientCapabilities": [None, 5, {"roots": 5}, {"elicitation": {"form": {}}}],
    "clientInfo": [None, "x", {"name": "a"}, {"name": "a", "version": "1"}],
    "logLevel": ["debug", "loud", 5],
}
METAS: list[Any] = [
    *({}, None, 1, [], {"": ""}, {"progressToken": 1}, {"progressToken": None}, {"progressToken": {}}),
    *({META + name: value} for name, values in _VALUES.items() for value in values),
    *({"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}, {"long": "x" * 3000}),
]


@pytest.mark.parametrize("version", [NEWER, OLDER])
@pytest.mark.parametrize("meta", METAS, ids=lambda meta: repr(meta)[:60])
async def test_the_envelope_of_a_call_makes_no_difference_the_first_time_and_later(version: str, meta: Any) -> None:
    arguments = {"name": "greet", "arguments": {"name": "Ann"}}
    message, headers = request("tools/call", arguments, version)
    given = message["params"].get("_meta", {})
    wrong = message | {"params": arguments | {"_meta": given | meta if isinstance(meta, dict) else meta}}
    missing = [message | {"params": arguments | {"_meta": {k: v for k, v in given.items() if k != n}}} for n in given]
    async with both_entries() as entries:
        for one in (wrong, message, wrong, *missing, message | {"params": arguments}):
            await compare(entries, one, headers)
        assert entries.taken


@pytest.mark.parametrize("version", [NEWER, OLDER])
async def test_only_a_call_that_needs_nothing_of_the_runner_passes_it_by(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    ran: list[Any] = []
    run = sdk.ServerRunner._on_request
    async with both_entries() as entries:

        async def counted(self: sdk.ServerRunner[Any], context: Any, method: str, params: Any) -> dict[str, Any]:
            if entries.is_direct:
                ran.append(params["name"])
            return await run(self, context, method, params)

        monkeypatch.setattr(sdk.ServerRunner, "_on_request", counted)
        for function in TOOLS:
            arguments = {"x": 1} if function is point else {"path": "a"} if function is erase else {}
            await compare(entries, *request("tools/call", {"name": function.__name__, "arguments": arguments}, version))
        assert ran == ["request_of", "erase", "grüße"], "these take the context, or ask, or need a header to be decoded"
        state = {"name": "greet", "arguments": {"name": "Ann"}, "requestState": "x"}
        await compare(entries, *request("tools/call", state, version))
        assert ran[3:] == ["greet"], "the SDK opens the state"


@pytest.mark.parametrize("version", [NEWER, OLDER])
async def test_a_middleware_that_is_added_while_the_server_runs_sees_every_call(version: str) -> None:
    seen: list[str] = []

    async def watch(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        seen.append(ctx.method)
        return await call_next(ctx)

    message, headers = request("tools/call", {"name": "greet", "arguments": {"name": "Ann"}}, version)
    async with both_entries() as entries:
        await compare(entries, message, headers)
        entries.mcp.middleware.append(watch)
        await compare(entries, message, headers)
    assert seen == ["tools/call", "tools/call"]


@pytest.mark.parametrize("version", [NEWER, OLDER])
async def test_a_server_that_overrides_call_tool_sees_every_call(version: str) -> None:
    seen: list[str] = []

    class Watching(GuardedServer):
        async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
            seen.append(name)
            return await super().call_tool(name, arguments, context)

    message, headers = request("tools/call", {"name": "greet", "arguments": {"name": "Ann"}}, version)
    async with both_entries(kind=Watching) as entries:
        await compare(entries, message, headers)
    assert seen == ["greet", "greet"]


async def test_a_name_that_is_not_ascii_has_to_be_encoded_in_its_header_either_way() -> None:
    message, headers = request("tools/call", {"name": "grüße", "arguments": {}}, NEWER)
    raw = [header for header in headers if header[0] != b"mcp-name"]
    coded = base64.b64encode("grüße".encode()).decode()
    async with both_entries() as entries:
        for name, status in (("grüße".encode(), 400), (f"=?base64?{coded}?=".encode(), 200)):
            assert (await compare(entries, message, [*raw, (b"mcp-name", name)])).status == status


@pytest.mark.parametrize("version", [NEWER, OLDER])
async def test_an_undeclared_question_is_a_fault_of_the_tool_either_way(version: str) -> None:
    async with both_entries() as entries:
        answer = await compare(entries, *request("tools/call", {"name": "ask_unannounced", "arguments": {}}, version))
    result = answer.json()["result"]
    assert result["isError"], "no seal would be put on its state"
    assert "InputRequiredResult" in result["content"][0]["text"]


async def test_scopes_are_the_same_either_way() -> None:
    async with both_entries() as entries:
        for version, scopes in itertools.product((NEWER, OLDER), ((), ("admin",), ("*",))):
            caller = Principal("key:a", "key", frozenset(scopes))
            for method, params in (("tools/list", {}), ("tools/call", {"name": "secret", "arguments": {}})):
                await compare(entries, *request(method, params, version), caller=caller)
        assert entries.taken == 12


async def test_a_list_that_was_kept_is_the_list_and_hides_no_wrong_request(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"_meta": {f"{META}logLevel": 5, f"{META}clientCapabilities": 5}}
    listings: list[Any] = [{}, {}, None, {"cursor": None}, wrong, {"_meta": {"a": 1}}]

    async def answers(*, keeps: bool) -> list[Answer]:
        monkeypatch.setattr(guard, "_MAX_LISTINGS", 100 if keeps else 0)
        found = []
        async with both_entries() as entries:
            for version, scopes in itertools.product((NEWER, OLDER), (("admin",), (), ("*",), ("other",), ("admin",))):
                caller = Principal("key:a", "key", frozenset(scopes))
                for params in listings:
                    message, headers = request("tools/list", params, version)
                    found.append(await compare(entries, message, headers, caller=caller))
        return found

    assert await answers(keeps=True) == await answers(keeps=False)


@pytest.mark.parametrize("version", [NEWER, OLDER])
async def test_tools_get_what_the_lifespan_of_their_server_yields(version: str) -> None:
    @asynccontextmanager
    async def lifespan(_: MCPServer[str]) -> AsyncIterator[str]:
        yield "database"

    mcp = MCPServer[str]("test", lifespan=lifespan)

    @mcp.tool()
    async def shared(ctx: Context[str, Any]) -> str:
        return ctx.request_context.lifespan_context

    mcp.streamable_http_app()
    manager = SessionManager(mcp.session_manager.app, stateless=True)
    layer = RequestBodyLayer(McpEndpoint(manager), events=EventLog(), endpoint="/mcp", max_bytes=1000)
    message, headers = request("tools/call", {"name": "shared", "arguments": {}}, version)
    async with manager.run():
        scope = http_scope("/mcp", method="POST", headers=headers)
        answer = await ask(layer, scope, [json.dumps(message).encode()], caller=STDIO)
    assert answer.json()["result"]["content"][0]["text"] == "database"


@pytest.mark.parametrize("version", [NEWER, OLDER])
async def test_what_a_handler_leaves_to_clean_up_is_cleaned_up_after_its_request(version: str) -> None:
    cleaned: list[str] = []
    async with both_entries() as entries:
        mcp = entries.mcp

        async def leave_something(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
            ctx.session._connection.exit_stack.callback(cleaned.append, ctx.method)
            return await call_next(ctx)

        mcp.middleware.insert(0, leave_something)
        await compare(entries, *request("tools/list", {}, version))
        assert entries.taken == 1
    assert cleaned == ["tools/list", "tools/list"]


async def test_a_tool_with_marked_parameters_goes_the_way_of_the_sdk() -> None:
    """Its arguments have to be repeated in headers, which only the SDK's entry compares."""

    @tool(read_only=True)
    async def routed(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
        """Be routed by a header."""
        return region

    mcp = GuardedServer("test", tools=[routed, greet], events=EventLog(), output=UNMARKED)
    mcp.streamable_http_app()
    manager = SessionManager(mcp.session_manager.app, guarded=mcp, stateless=True)
    layer = RequestBodyLayer(McpEndpoint(manager), events=EventLog(), endpoint="/mcp", max_bytes=1000)
    message, headers = request("tools/call", {"name": "routed", "arguments": {"region": "eu"}}, NEWER)
    body = [json.dumps(message).encode()]
    async with manager.run():
        for header, status in ((b"eu", 200), (b"us", 400), (None, 400)):
            added = [(b"mcp-param-region", header)] if header is not None else []
            scope = http_scope("/mcp", method="POST", headers=headers + added)
            assert (await ask(layer, scope, body, caller=STDIO)).status == status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PARAMS = st.dictionaries(
    st.sampled_from(["name", "arguments", "uri", "cursor", "_meta", "requestState", "inputResponses"]),
    JSON | st.sampled_from(["greet", "erase", "test://fixed", "ask_for"]),
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(sorted({method for method, _ in CALLS if method != "subscriptions/listen"})),
    params=PARAMS | st.none(),
    version=st.sampled_from([NEWER, OLDER, None]),
    message_id=st.integers(-(2**60), 2**60) | st.text(max_size=5),
    keeps_meta=st.booleans(),
)
async def test_whatever_is_sent_the_answers_are_the_same(
    method: str, params: dict[str, Any] | None, version: str | None, message_id: int | str, keeps_meta: bool
) -> None:
    if params is not None and keeps_meta:
        params.pop("_meta", None)
    if params is not None and not isinstance(params.get("_meta", {}), dict):
        version = None if version == NEWER else version
    try:
        message, headers = request(method, params, version, id=message_id)
    except UnicodeEncodeError:
        return  # no header can carry that name
    async with both_entries() as entries:
        await compare(entries, message, headers)
