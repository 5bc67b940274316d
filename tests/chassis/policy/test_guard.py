"""The guard that every tool call, resource read and prompt passes."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

import anyio
import pytest
import structlog
from mcp import MCPError
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
)
from pydantic import BaseModel, Field, field_validator

from mcp_chassis import prompt, resource, tool
from mcp_chassis.auth.principal import Principal, current_principal
from mcp_chassis.calls.scopes import INSUFFICIENT_SCOPE
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.sinks import InvalidInput, sanitize_input

from ..support.running import text

pytestmark = pytest.mark.anyio

ALICE = Principal("oauth:alice", "oauth")


@tool(read_only=True)
def greet(name: Annotated[str, Field(max_length=20)]) -> str:
    """Greet."""
    return f"Hello, {sanitize_input(name)}!"


@tool(read_only=True)
def crash() -> str:
    """Fail in an unforeseen way."""
    raise RuntimeError("the password is hunter2")


@tool(read_only=True)
def refuse() -> str:
    """Fail in a way that the caller may know of."""
    raise ToolError("There is no such note.")


@tool(read_only=True)
async def hang() -> str:
    """Never return."""
    await anyio.sleep_forever()
    return ""


@resource("notes://{name}")
def note(name: str) -> str:
    """A note."""
    if name == "crash":
        raise RuntimeError("the password is hunter2")
    return f"note {sanitize_input(name)}"


@prompt()
def introduce(name: str) -> str:
    """Introduce."""
    if name == "crash":
        raise ValueError("the password is hunter2")
    return f"Introduce {sanitize_input(name)}."


class Guarded:
    """A guarded server with its events and its log."""

    def __init__(self, log: list[Any]) -> None:
        self.events, self.log = EventLog(), log
        tools = (greet, crash, refuse, hang)
        self.server = GuardedServer("test", tools=tools, resources=(note,), prompts=(introduce,), events=self.events)

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        result = await self.server.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        return result

    @property
    def audit(self) -> dict[str, Any]:
        """The one audit line."""
        (line,) = [line for line in self.log if "outcome" in line]
        assert line["duration_ms"] >= 0
        noise = {"duration_ms", "log_level"}
        return {name: value for name, value in line.items() if name not in noise}

    @property
    def event(self) -> dict[str, Any]:
        """The one security event."""
        (event,) = self.events.recent()
        return event


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with structlog.testing.capture_logs() as log:
        token = current_principal.set(ALICE)
        yield Guarded(log)
        current_principal.reset(token)


# --- tools ---


async def test_a_call_that_goes_well_leaves_an_audit_line_without_values(guarded: Guarded) -> None:
    result = await guarded.call("greet", name="hunter2")
    assert text(result) == "Hello, hunter2!"
    assert not result.is_error
    assert guarded.audit == {
        "event": "tool_call",
        "principal": "oauth:alice",
        "tool": "greet",
        "argument_bytes": {"name": len('"hunter2"')},
        "outcome": "ok",
    }
    assert "hunter2" not in repr(guarded.log)
    assert guarded.events.total == 0


@pytest.mark.parametrize(
    "arguments", [{"name": "a" * 21}, {"name": 7}, {}, {"name": "a", "more": 1}, {"name": "$(rm)"}]
)
async def test_refused_arguments_are_a_result_that_the_model_can_read(
    guarded: Guarded, arguments: dict[str, Any]
) -> None:
    result = await guarded.call("greet", **arguments)
    assert result.is_error
    assert text(result).startswith("Invalid arguments: ")
    assert "$(rm)" not in text(result)
    assert "pydantic" not in text(result)
    assert guarded.audit["outcome"] == "rejected"
    assert (guarded.event["event"], guarded.event["identifier"]) == ("input_validation_failed", "oauth:alice")


async def test_a_crash_never_shows_its_text(guarded: Guarded) -> None:
    result = await guarded.call("crash")
    assert result.is_error
    assert text(result) == "The tool crash failed. The server's log says why."
    assert guarded.audit["outcome"] == "crashed"
    assert (guarded.event["event"], guarded.event["severity"]) == ("tool_execution_failed", "high")
    assert guarded.event["details"]["reason"] == "crashed"
    assert "hunter2" not in repr(guarded.event)
    assert [line["tool"] for line in guarded.log if line["event"] == "tool crashed"] == ["crash"]


async def test_an_anticipated_failure_does(guarded: Guarded) -> None:
    result = await guarded.call("refuse")
    assert result.is_error
    assert text(result).endswith("There is no such note.")
    assert guarded.audit["outcome"] == "failed"
    assert (guarded.event["event"], guarded.event["severity"]) == ("tool_execution_failed", "low")


async def test_an_unknown_tool_is_an_error_of_the_protocol(guarded: Guarded) -> None:
    with pytest.raises(MCPError) as error:
        await guarded.call("no_such_tool")
    assert error.value.error.code == INVALID_PARAMS
    assert "no_such_tool" not in error.value.error.message
    assert guarded.audit["outcome"] == "unknown"
    assert guarded.event["event"] == "input_validation_failed"


async def test_a_cancelled_call_leaves_its_line(guarded: Guarded) -> None:
    with anyio.move_on_after(0.02):
        await guarded.call("hang")
    assert guarded.audit["outcome"] == "cancelled"


async def test_a_lone_surrogate_is_a_refusal_not_a_crash_of_the_guard(guarded: Guarded) -> None:
    """Over HTTP the strict parser has refused it before; on stdio the SDK's own parser lets it pass."""
    result = await guarded.call("greet", name="\ud800")
    assert result.is_error
    assert guarded.audit["outcome"] == "rejected"


async def test_a_flood_of_arguments_does_not_flood_the_line(guarded: Guarded) -> None:
    flood = {str(number) + "x" * 1000: "y" * 1000 for number in range(100)}
    await guarded.call("greet", **flood)
    assert len(json.dumps(guarded.audit)) < 5000


# --- resources ---


async def test_a_resource_that_is_read_leaves_an_audit_line(guarded: Guarded) -> None:
    contents = await guarded.server.read_resource("notes://a")
    assert "note a" in repr(contents)
    assert guarded.audit == {
        "event": "resource_read",
        "principal": "oauth:alice",
        "resource": "notes://{name}",
        "argument_bytes": {"uri": 11},
        "outcome": "ok",
    }


async def test_a_resource_that_refuses_its_variable_is_invalid_params(guarded: Guarded) -> None:
    with pytest.raises(MCPError) as error:
        await guarded.server.read_resource("notes://$(rm)")
    assert error.value.error.code == INVALID_PARAMS
    assert guarded.audit["outcome"] == "rejected"
    assert guarded.event["event"] == "input_validation_failed"


async def test_a_resource_that_crashes_never_shows_its_text(guarded: Guarded) -> None:
    with pytest.raises(MCPError) as error:
        await guarded.server.read_resource("notes://crash")
    assert error.value.error.code == INTERNAL_ERROR
    assert error.value.error.message == "The resource failed"
    assert guarded.audit["outcome"] == "crashed"
    assert guarded.event["event"] == "tool_execution_failed"


async def test_an_unknown_resource_leaves_its_line(guarded: Guarded) -> None:
    with pytest.raises(MCPError, match="nothing://here") as error:
        await guarded.server.read_resource("nothing://here")
    assert error.value.error.code == INVALID_PARAMS
    assert guarded.audit["outcome"] == "unknown"
    assert guarded.event["details"]["reason"] == "unknown"
    assert guarded.event["details"]["resource"].startswith("(unknown: 14 characters, ")


# --- prompts ---


async def test_a_prompt_that_is_rendered_leaves_an_audit_line(guarded: Guarded) -> None:
    await guarded.server.get_prompt("introduce", {"name": "hunter2"})
    assert guarded.audit["event"] == "prompt_get"
    assert guarded.audit["outcome"] == "ok"
    assert "hunter2" not in repr(guarded.log)


@pytest.mark.parametrize("arguments", [{}, {"name": "$(rm)"}], ids=repr)
async def test_a_prompt_that_refuses_its_arguments_is_invalid_params(
    guarded: Guarded, arguments: dict[str, Any]
) -> None:
    with pytest.raises(MCPError) as error:
        await guarded.server.get_prompt("introduce", arguments)
    assert error.value.error.code == INVALID_PARAMS
    assert guarded.audit["outcome"] == "rejected"
    assert guarded.event["event"] == "input_validation_failed"


async def test_a_prompt_that_crashes_never_shows_its_text(guarded: Guarded) -> None:
    with pytest.raises(MCPError) as error:
        await guarded.server.get_prompt("introduce", {"name": "crash"})
    assert error.value.error.code == INTERNAL_ERROR
    assert error.value.error.message == "The prompt failed"
    assert guarded.audit["outcome"] == "crashed"


async def test_an_unknown_prompt_is_invalid_params(guarded: Guarded) -> None:
    with pytest.raises(MCPError) as error:
        await guarded.server.get_prompt("no_such_prompt", {})
    assert error.value.error.code == INVALID_PARAMS
    assert guarded.audit["outcome"] == "unknown"
    assert guarded.event["event"] == "input_validation_failed"


# --- how it is made ---


def test_two_of_one_name_are_refused_at_the_start() -> None:
    """The SDK would keep the first and drop the second with a warning."""
    with pytest.raises(ValueError, match="two tools have the same name: greet"):
        GuardedServer("test", tools=(greet, crash, greet), events=EventLog())
    with pytest.raises(ValueError, match="two prompts have the same name: introduce"):
        GuardedServer("test", prompts=(introduce, introduce), events=EventLog())


@pytest.mark.parametrize("listed", ["tools", "resources", "prompts"])
def test_what_is_not_declared_is_refused_at_the_start(listed: str) -> None:
    def forgotten() -> str:
        return ""

    undeclared: dict[str, Any] = {listed: (forgotten,)}
    with pytest.raises(TypeError, match=f"forgotten is listed in {listed.upper()} but not declared"):
        GuardedServer("test", events=EventLog(), **undeclared)


@pytest.mark.parametrize(
    "change",
    [
        lambda server: server.add_tool(crash),
        lambda server: server.tool()(crash),
        lambda server: server.remove_tool("greet"),
        lambda server: server.add_prompt(None),
        lambda server: server.prompt()(crash),
        lambda server: server.remove_prompt("introduce"),
        lambda server: server.add_resource(None),
        lambda server: server.resource("more://notes")(crash),
        lambda server: server.completion(),
    ],
)
def test_what_is_served_cannot_be_changed_afterwards(guarded: Guarded, change: Callable[[Any], object]) -> None:
    with pytest.raises(RuntimeError, match="list them in TOOLS, RESOURCES, PROMPTS"):
        change(guarded.server)


def test_the_tools_cannot_be_exchanged_either(guarded: Guarded) -> None:
    with pytest.raises(TypeError):
        guarded.server.guarded_tools["greet"] = guarded.server.guarded_tools["crash"]  # type: ignore[index]


# --- scopes ---


@tool(read_only=True, scopes=["secrets:read"])
def secret_tool() -> str:
    """Tell."""
    return "secret"


@resource("secret://{name}", scopes=["secrets:read"])
def secret_template(name: str) -> str:
    """Tell."""
    return name


@resource("secret://fixed", scopes=["secrets:read", "secrets:list"])
def secret_resource() -> str:
    """Tell."""
    return "secret"


@prompt(scopes=["secrets:read"])
def secret_prompt() -> str:
    """Tell."""
    return "secret"


@pytest.fixture
def secretive(guarded: Guarded) -> Guarded:
    guarded.server = GuardedServer(
        "test",
        tools=(greet, secret_tool),
        resources=(note, secret_template, secret_resource),
        prompts=(introduce, secret_prompt),
        events=guarded.events,
    )
    return guarded


async def listed(server: GuardedServer) -> list[str]:
    names = [item.name for item in await server.list_tools()]
    names += [item.name for item in await server.list_resources()]
    names += [item.name for item in await server.list_resource_templates()]
    return names + [item.name for item in await server.list_prompts()]


async def test_what_a_caller_may_not_call_is_not_listed(secretive: Guarded) -> None:
    assert await listed(secretive.server) == ["greet", "note", "introduce"]


async def test_what_a_caller_may_call_is_listed(secretive: Guarded) -> None:
    current_principal.set(Principal("oauth:bob", "oauth", frozenset({"secrets:read"})))
    assert "secret_resource" not in await listed(secretive.server), "one scope of two is not enough"
    current_principal.set(Principal("key:default", "key", frozenset({"*"})))
    assert len(await listed(secretive.server)) == 7


@pytest.mark.parametrize(
    ("ask", "needed"),
    [
        (lambda server: server.call_tool("secret_tool", {}), ["secrets:read"]),
        (lambda server: server.read_resource("secret://a"), ["secrets:read"]),
        (lambda server: server.read_resource("secret://fixed"), ["secrets:list", "secrets:read"]),
        (lambda server: server.get_prompt("secret_prompt", {}), ["secrets:read"]),
    ],
)
async def test_a_call_beyond_the_scopes_names_all_that_are_needed(
    secretive: Guarded, ask: Callable[[GuardedServer], Awaitable[Any]], needed: list[str]
) -> None:
    with pytest.raises(MCPError) as error:
        await ask(secretive.server)
    assert error.value.error.code == INSUFFICIENT_SCOPE
    assert error.value.error.data["required_scopes"] == needed
    assert secretive.audit["outcome"] == "forbidden"
    assert secretive.event["details"]["reason"] == "insufficient_scope"


HIDDEN = "seen\U000e0068\U000e0069\u202e"


@resource("hidden://text")
def hidden_resource() -> str:
    """Return invisible characters."""
    return HIDDEN


@prompt()
def hidden_prompt() -> str:
    """Return invisible characters."""
    return HIDDEN


@tool(read_only=True)
async def hidden_question() -> InputRequiredResult:
    """Ask with invisible characters."""
    form = ElicitRequestFormParams(message=HIDDEN, requested_schema={"type": "object", "properties": {}})
    return InputRequiredResult(input_requests={"a": ElicitRequest(params=form)}, request_state=HIDDEN)


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda server: server.read_resource("hidden://text"), {"resource": "hidden://text"}),
        (lambda server: server.get_prompt("hidden_prompt"), {"prompt": "hidden_prompt"}),
        (lambda server: server.call_tool("hidden_question", {}), {"tool": "hidden_question"}),
    ],
    ids=["resource", "prompt", "question"],
)
async def test_hidden_text_is_stripped_and_reported_wherever_it_comes_from(
    guarded: Guarded, ask: Callable[[GuardedServer], Awaitable[Any]], what: dict[str, str]
) -> None:
    server = GuardedServer(
        "test",
        tools=(hidden_question,),
        resources=(hidden_resource,),
        prompts=(hidden_prompt,),
        events=guarded.events,
    )
    answer = await ask(server)
    if isinstance(answer, InputRequiredResult):
        assert answer.request_state == HIDDEN, "it is sealed: only the tool reads it"
        answer.request_state = None
    assert "seen" in repr(answer)
    assert "\\U000e" not in ascii(answer)
    assert "\\u202e" not in ascii(answer)
    assert guarded.event["details"] == {"reason": "hidden_text", "removed": 3, **what}
    assert guarded.event["severity"] == "medium"


async def test_what_a_model_of_the_functions_own_says_is_not_told(guarded: Guarded) -> None:
    """It is not about the caller's arguments, and may quote what the function works with."""

    class Config(BaseModel):
        key: str

        @field_validator("key")
        @classmethod
        def _key(cls, value: str) -> str:
            raise ValueError(f"the password is {value}")

    @resource("config://{name}")
    def config(name: str) -> str:
        return Config(key="hunter2").key

    @prompt()
    def configure(name: str) -> str:
        return Config(key="hunter2").key

    server = GuardedServer("test", resources=(config,), prompts=(configure,), events=guarded.events)
    for ask in (lambda: server.read_resource("config://a"), lambda: server.get_prompt("configure", {"name": "a"})):
        with pytest.raises(MCPError) as error:
            await ask()
        assert error.value.error.code == INTERNAL_ERROR
        assert "hunter2" not in repr(error.value.error)
        assert guarded.events.recent(1)[0]["details"]["reason"] == "crashed"


async def test_what_cannot_be_sent_is_a_crash(guarded: Guarded) -> None:
    @resource("half://pair")
    def half() -> str:
        return "\ud800"

    @prompt()
    def half_prompt() -> str:
        return "\ud800"

    server = GuardedServer("test", resources=(half,), prompts=(half_prompt,), events=guarded.events)
    for ask in (lambda: server.read_resource("half://pair"), lambda: server.get_prompt("half_prompt")):
        with pytest.raises(MCPError, match="failed"):
            await ask()


def test_a_refusal_of_ones_own_is_an_invalid_input() -> None:
    assert issubclass(InvalidInput, ValueError)
