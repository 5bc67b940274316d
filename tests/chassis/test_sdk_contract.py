"""What the chassis relies on in the MCP SDK beyond its documented entry points.

Each failure names what a new version of the SDK has moved, and the modules of the chassis that use it. Nothing here
imports the chassis: if the SDK moves a name, run this file by itself with `pytest --noconftest`.
"""

import ast
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import CallToolRequestParams
from pydantic import ValidationError

CHASSIS = Path(__file__).parents[2] / "{{cookiecutter.project_slug}}" / "src" / "mcp_chassis"
SEAM = CHASSIS / "mcp" / "sdk.py"
DOCUMENTED = {"mcp", "mcp.types", "mcp.server.mcpserver"}
SDK = f"mcp {version('mcp')}"


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the absolute imports of a module as pairs of a module and a name in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


MODULES = {name: module for module, name in imports(SEAM)}


@functools.cache
def names_by_module() -> dict[str, set[str]]:
    """Return the names that each module of the chassis mentions."""
    paths = [path for path in sorted(CHASSIS.rglob("*.py")) if path != SEAM]
    trees = {path.relative_to(CHASSIS).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    return {
        module: {getattr(node, "attr", "") or getattr(node, "name", "") for node in ast.walk(tree)}
        for module, tree in trees.items()
    }


def users(name: str) -> str:
    """Return the modules of the chassis that use a name."""
    return ", ".join(module for module, names in names_by_module().items() if name in names) or "no module"


def resolved(path: str) -> Any:
    """Return what a dotted path means: a name of the seam or of the documented modules, and attributes of it."""
    name, *attributes = path.split(".")
    found = getattr(import_module(MODULES.get(name, "mcp.server.mcpserver")), name)
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_name_is_where_it_was(name: str) -> None:
    module = MODULES[name]
    try:
        is_there = hasattr(import_module(module), name)
    except ImportError:
        is_there = False
    assert is_there, f"{SDK} has no {module}.{name}. It is used in {users(name)}."


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_name_is_used(name: str) -> None:
    assert users(name) != "no module", f"nothing uses {name}: remove it from mcp/sdk.py"


def test_only_the_seam_imports_what_is_less_documented() -> None:
    found = [
        f"{path.relative_to(CHASSIS)} imports {module}: import it in mcp/sdk.py instead"
        for path in sorted(CHASSIS.rglob("*.py"))
        if path != SEAM and path.relative_to(CHASSIS).parts[0] != "testing"
        for module, _ in imports(path)
        if module.partition(".")[0] in {"mcp", "mcp_types"} and module not in DOCUMENTED
    ]
    assert found == []


# What is called or overridden, with the parameters that are passed or taken by these names.
PARAMETERS: dict[str, str] = {
    "_SingleExchangeDispatchContext": "transport request_id message_metadata cancel_requested",
    "CacheHint": "ttl_ms scope",
    "Connection": "outbound protocol_version client_params",
    "Connection.from_envelope": "protocol_version client_info client_capabilities",
    "Context.elicit": "message schema",
    "FuncMetadata._output_adapter": "output_model",
    "FuncMetadata.convert_result": "result",
    "FuncMetadata.validate_arguments": "arguments_to_validate",
    "InMemorySubscriptionBus": "",
    "InMemorySubscriptionBus.publish": "event",
    "ListenHandler": "bus",
    "ListenHandler.__call__": "ctx params",
    "ListenHandler.close": "",
    "MCPServer": "name version instructions lifespan tools subscriptions request_state_security cache_hints",
    "MCPServer.add_prompt": "prompt",
    "MCPServer.add_resource": "resource",
    "MCPServer.add_tool": "fn",
    "MCPServer.call_tool": "name arguments context",
    "MCPServer.completion": "",
    "MCPServer.get_prompt": "name arguments context",
    "MCPServer.list_prompts": "",
    "MCPServer.list_resource_templates": "",
    "MCPServer.list_resources": "",
    "MCPServer.list_tools": "",
    "MCPServer.prompt": "title",
    "MCPServer.read_resource": "uri context",
    "MCPServer.remove_prompt": "name",
    "MCPServer.remove_tool": "name",
    "MCPServer.resource": "uri title mime_type",
    "MCPServer.run_stdio_async": "",
    "MCPServer.streamable_http_app": "",
    "RequestStateSecurity": "keys ttl bind_principal",
    "Server.add_request_handler": "method params_type handler",
    "Server.get_capabilities": "protocol_version",
    "ServerMessageMetadata": "request_context can_send_request",
    "ServerRunner": "server connection lifespan_state",
    "ServerRunner._on_request": "dctx method params",
    "ServerRunner._serialize": "method version result",
    "StreamableHTTPSessionManager": "app stateless max_request_body_size security_settings",
    "StreamableHTTPSessionManager.handle_request": "scope receive send",
    "StreamableHTTPSessionManager.run": "",
    "SubscriptionBus.publish": "event",
    "SubscriptionBus.subscribe": "listener",
    "Tool.from_function": "fn title annotations",
    "TransportContext": "kind can_send_request headers",
    "TransportSecuritySettings": "enable_dns_rebinding_protection",
    "UriTemplate.match": "uri",
    "UriTemplate.parse": "template",
    "aclose_shielded": "connection",
    "check_accept_headers": "request",
    "classify_inbound_request": "body headers",
    "modern_error_data": "exc",
    "validate_client_request": "method version params",
}


@pytest.mark.parametrize("path", sorted(PARAMETERS))
def test_what_is_called_takes_the_same_parameters(path: str) -> None:
    first, *_, last = path.split(".") * 2
    place = users(first if first in MODULES else last)
    try:
        parameters = inspect.signature(resolved(path)).parameters
    except AttributeError:
        pytest.fail(f"{SDK} has no {path}. It is used in {place}.")
    missing = [name for name in PARAMETERS[path].split() if name not in parameters]
    assert not missing, f"{path} of {SDK} does not take {', '.join(missing)}. It is used in {place}."
    known = {*PARAMETERS[path].split(), "self"}
    further = [
        name
        for name, one in parameters.items()
        if name not in known and one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]
    assert not further, f"{path} of {SDK} requires {', '.join(further)}. It is used in {place}."


def greet(name: str) -> str:
    """Greet."""
    raise LookupError("crash")


def server() -> Any:
    """Return a server with one of each, whose own manager is made."""
    made = MCPServer[Any]("contract")

    @made.tool()
    def add(a: int) -> int:
        """Add."""
        if a == 0:
            raise LookupError("crash")
        return a

    made.prompt()(greet)

    @made.resource("contract://fixed")
    def fixed() -> str:
        """Return a text."""
        raise LookupError("crash")

    @made.resource("contract://{name}")
    def template(name: str) -> str:
        """Return a text."""
        raise LookupError("crash")

    made.streamable_http_app()
    return made


# What is read of objects that the SDK makes. Each takes the server above and is true.
READ: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "MCPServer.session_manager.app": ("app.py", lambda one: isinstance(one.session_manager.app, resolved("Server"))),
    "MCPServer.middleware": ("mcp/guarded_server.py", lambda one: isinstance(one.middleware, list)),
    "MCPServer._lowlevel_server": (
        "mcp/guarded_server.py",
        lambda one: one._lowlevel_server is one.session_manager.app,
    ),
    "MCPServer._resource_manager": (
        "mcp/guarded_server.py",
        lambda one: (
            [item.uri for item in one._resource_manager.list_resources()] == ["contract://fixed"]
            and [item.uri_template for item in one._resource_manager.list_templates()] == ["contract://{name}"]
        ),
    ),
    "MCPServer._prompt_manager": (
        "mcp/guarded_server.py",
        lambda one: [item.name for item in one._prompt_manager.list_prompts()] == ["greet"],
    ),
    "Prompt.arguments": (
        "mcp/guarded_server.py",
        lambda one: (
            [(a.name, a.required) for a in one._prompt_manager.get_prompt("greet").arguments] == [("name", True)]
        ),
    ),
    "MCPServer._prompt_manager.get_prompt of a name that is not there": (
        "mcp/guarded_server.py",
        lambda one: one._prompt_manager.get_prompt("nothing") is None,
    ),
    "Server.get_tool_input_schema": (
        "mcp/fast_path.py",
        lambda one: one.session_manager.app.get_tool_input_schema("add")["type"] == "object",
    ),
    "the same schema at every call": (
        "mcp/fast_path.py",
        lambda one: (
            one.session_manager.app.get_tool_input_schema("add") is one.session_manager.app.get_tool_input_schema("add")
        ),
    ),
    "Server.middleware": ("mcp/endpoint.py", lambda one: isinstance(one.session_manager.app.middleware, list)),
    "OpenTelemetryMiddleware in Server.middleware": (
        "mcp/endpoint.py",
        lambda one: (
            [type(m).__name__ for m in one.session_manager.app.middleware].count("OpenTelemetryMiddleware") == 1
        ),
    ),
    "StreamableHTTPSessionManager.app": ("mcp/endpoint.py", lambda one: one.session_manager.app is not None),
    "StreamableHTTPSessionManager.json_response": (
        "mcp/endpoint.py",
        lambda one: one.session_manager.json_response is False,
    ),
    "StreamableHTTPSessionManager._lifespan_state": (
        "mcp/endpoint.py",
        lambda one: one.session_manager._lifespan_state is None,
    ),
    "Tool": (
        "calls/tools.py",
        lambda _: all(
            hasattr(resolved("Tool").from_function(len_of), name)
            for name in ("name", "description", "parameters", "fn", "is_async", "fn_metadata")
        ),
    ),
    "FuncMetadata.arg_model.model_dump_one_level": (
        "calls/arguments.py",
        lambda _: (
            resolved("Tool").from_function(len_of).fn_metadata.arg_model(text="a").model_dump_one_level()
            == {"text": "a"}
        ),
    ),
    "Connection.exit_stack with nothing to clean up": (
        "mcp/fast_path.py",
        lambda _: not resolved("Connection").from_envelope("2025-11-25", None, None).exit_stack._exit_callbacks,
    ),
    "ERROR_CODE_HTTP_STATUS": (
        "mcp/fast_path.py",
        lambda _: all(type(n) is int for pair in resolved("ERROR_CODE_HTTP_STATUS").items() for n in pair),
    ),
    "MODERN_PROTOCOL_VERSIONS": ("mcp/fast_path.py", lambda _: "2026-07-28" in resolved("MODERN_PROTOCOL_VERSIONS")),
    "HANDSHAKE_PROTOCOL_VERSIONS": (
        "mcp/fast_path.py",
        lambda _: "2025-11-25" in resolved("HANDSHAKE_PROTOCOL_VERSIONS"),
    ),
    "UnexpectedToolError is a ToolError": (
        "calls/outcome.py",
        lambda _: issubclass(resolved("UnexpectedToolError"), resolved("ToolError")),
    ),
    "UnexpectedResourceError and ResourceNotFoundError are ResourceErrors": (
        "calls/outcome.py",
        lambda _: all(
            issubclass(resolved(name), resolved("ResourceError"))
            for name in ("UnexpectedResourceError", "ResourceNotFoundError")
        ),
    ),
}


def len_of(text: str) -> int:
    """Return the length of a text."""
    return len(text)


@pytest.mark.parametrize("what", sorted(READ))
def test_what_is_read_is_there(what: str) -> None:
    place, is_so = READ[what]
    try:
        holds = is_so(server())
    except (AttributeError, TypeError) as error:
        pytest.fail(f"{what} has changed in {SDK}: {error}. It is used in {place}.")
    assert holds, f"{what} has changed in {SDK}. It is used in {place}."


def test_a_modern_request_is_routed_with_these_members() -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
    classify = resolved("classify_inbound_request")
    for name in ("protocol_version", "client_info", "client_capabilities"):
        assert hasattr(classify(message, headers=headers), name), f"the route of {SDK} has no {name}: mcp/fast_path.py"
    refused = classify(message, headers=headers | {"mcp-method": "other"})
    assert isinstance(refused, resolved("InboundLadderRejection")), "mcp/fast_path.py leaves rejections to the SDK"


async def _raised(call: Any) -> BaseException:
    with pytest.raises(Exception) as error:  # noqa: PT011
        await call
    return error.value


CRASHES: list[tuple[str, str, Callable[[Any], Any], int]] = [
    ("of a tool", "UnexpectedToolError", lambda one: one.call_tool("add", {"a": 0}), 1),
    ("of a resource", "UnexpectedResourceError", lambda one: one.read_resource("contract://fixed"), 1),
    ("of a template", "UnexpectedResourceError", lambda one: one.read_resource("contract://name"), 1),
    ("of a prompt", "", lambda one: one.get_prompt("greet", {"name": "a"}), 2),
]


@pytest.mark.parametrize(("what", "kind", "call", "depth"), CRASHES, ids=[what for what, *_ in CRASHES])
def test_a_crash_is_wrapped_as_before(what: str, kind: str, call: Callable[[Any], Any], depth: int) -> None:
    error: BaseException | None = anyio.run(_raised, call(server()))
    assert isinstance(error, resolved(kind) if kind else ValueError), f"{SDK} wraps a crash {what} in {type(error)}"
    for _ in range(depth):
        assert error is not None
        error = error.__cause__
    assert isinstance(error, LookupError), f"{SDK} wraps a crash {what} otherwise: see _cause of calls/outcome.py"


def test_wrong_arguments_of_a_prompt_are_a_validation_error_named_after_the_function() -> None:
    error = anyio.run(_raised, server().get_prompt("greet", {"name": 7}))
    while error.__cause__ is not None:
        error = error.__cause__
    assert isinstance(error, ValidationError), f"{SDK} validates arguments of prompts otherwise: see calls/outcome.py"
    assert error.title == "greet", f"{SDK} names the validator of a prompt otherwise: see calls/outcome.py"


def test_a_protocol_error_passes_unwrapped() -> None:
    made = MCPServer[Any]("contract")

    @made.tool()
    def refuse() -> str:
        """Refuse."""
        raise MCPError(code=-32602, message="no")

    assert isinstance(anyio.run(_raised, made.call_tool("refuse", {})), MCPError)


def test_the_manager_keeps_what_the_lifespan_yields_while_it_runs() -> None:
    @asynccontextmanager
    async def lifespan(_: Any) -> Any:
        yield "state"

    made: Any = MCPServer[Any]("contract", lifespan=lifespan)
    made.streamable_http_app()

    async def state() -> Any:
        async with made.session_manager.run():
            return made.session_manager._lifespan_state

    assert anyio.run(state) == "state", f"{SDK} keeps it elsewhere: mcp/endpoint.py hands it to the fast path"


def test_a_call_hands_the_same_arguments_to_its_metadata() -> None:
    """`Arguments` is validated once because the SDK passes the object on that it was given."""
    seen: list[Any] = []

    class Watched(resolved("FuncMetadata")):  # type: ignore[misc]
        def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
            seen.append(arguments_to_validate)
            return arguments_to_validate

    tool = resolved("Tool").from_function(len_of)
    tool.fn_metadata = Watched(**dict(tool.fn_metadata))
    arguments = {"text": "abc"}
    anyio.run(MCPServer[Any]("contract", tools=[tool]).call_tool, "len_of", arguments)
    assert len(seen) == 1, f"{SDK} validates arguments {len(seen)} times"
    assert seen[0] is arguments, f"{SDK} copies arguments: see Arguments of calls/arguments.py"


def test_the_context_of_a_call_has_what_a_confirmation_reads() -> None:
    names = ("client_capabilities", "protocol_version", "request_state", "input_responses", "elicit")
    missing = [name for name in names if not hasattr(Context, name)]
    assert not missing, f"Context of {SDK} has no {', '.join(missing)}. It is used in calls/confirmation.py."


def test_the_request_state_of_a_context_can_be_replaced() -> None:
    """`calls/confirmation.py` gives a tool back its own part of it."""
    context: Any = Context(input_params=CallToolRequestParams(name="add", request_state="ours and theirs"))
    context._input_params.request_state = "theirs"
    assert context.request_state == "theirs", f"Context of {SDK} keeps its request state elsewhere"
