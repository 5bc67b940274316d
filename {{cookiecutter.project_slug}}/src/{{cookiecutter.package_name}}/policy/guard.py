"""The one choke point: every tool call, resource read and prompt passes here, over HTTP of both eras and over stdio."""

import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pydantic_core
import structlog
from mcp import MCPError
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedResourceError,
    UnexpectedToolError,
)
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
    TextContent,
)
from pydantic import AnyUrl, ValidationError
from pydantic_core import PydanticSerializationError

from ..auth.principal import current_principal
from ..observability.events import EventLog
from ..security.errors import InvalidInput
from .arguments import rejection, strict_tool
from .declare import resource_declaration

# What the SDK says; a prompt's own text could only pass for it by being a set of names.
_MISSING = re.compile(r"Missing required arguments: \{('\w+'(, )?)+\}")

audit_log = structlog.stdlib.get_logger("audit")
error_log = structlog.stdlib.get_logger("error")


class GuardedServer(MCPServer[Any]):
    """An MCP server whose tools, resources and prompts are all called through the guard.

    Args:
        name: what clients are told; also the audience of sealed request state.
        version: the project's version.
        instructions: for the model, on how to use the server.
        tools: plain typed functions.
        resources: functions declared with `@resource`.
        prompts: plain typed functions.
        events: where refusals and failures are noted.

    Raises:
        ValueError: if two tools or two prompts have the same name.
        TypeError: if a resource has not been declared.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "",
        instructions: str | None = None,
        tools: Sequence[Callable[..., Any]] = (),
        resources: Sequence[Callable[..., Any]] = (),
        prompts: Sequence[Callable[..., Any]] = (),
        events: EventLog,
    ) -> None:
        self._events = events
        self.bus = InMemorySubscriptionBus()
        guarded = [strict_tool(function) for function in tools]
        self._tool_names = _distinct("tool", [tool.name for tool in guarded])
        self._prompt_names = _distinct("prompt", [function.__name__ for function in prompts])
        super().__init__(name, version=version, instructions=instructions, tools=guarded, subscriptions=self.bus)
        for function in resources:
            declared = resource_declaration(function)
            self.resource(declared.uri, title=declared.title, mime_type=declared.mime_type)(function)
        for function in prompts:
            self.prompt()(function)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool. Refusals and failures come back as results that the model can read."""
        if name not in self._tool_names:
            raise MCPError(code=INVALID_PARAMS, message="Unknown tool")
        async with self._audited("tool_call", tool=name, arguments=_sizes(arguments)) as audit:
            try:
                result = await super().call_tool(name, arguments, context)
                result.model_dump_json()  # half a surrogate pair cannot be sent: better found here than half-way out
                return result
            except (PydanticSerializationError, SystemExit) as error:  # argparse ends the process when given nonsense
                return self._crashed(audit, name, error, error)
            except UnexpectedToolError as error:
                if isinstance(cause := error.__cause__, InvalidInput):
                    return self._rejected(audit, name, str(cause))
                return self._crashed(audit, name, error, cause)
            except ToolError as error:
                if isinstance(cause := error.__cause__, ValidationError):
                    return self._rejected(audit, name, rejection(cause))
                audit["outcome"] = "failed"
                self._events.record("tool_execution_failed", _caller(), severity="low", tool=name, reason=str(error))
                return _error_result(str(error))

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource. The text of an unexpected exception stays on the server."""
        async with self._audited("resource_read", uri=str(uri)[:200]) as audit:
            try:
                return await super().read_resource(uri, context)
            except ResourceError as error:
                if isinstance(cause := _root(error), InvalidInput | ValidationError):
                    audit["outcome"] = "rejected"
                    reason = rejection(cause) if isinstance(cause, ValidationError) else str(cause)
                    self._events.record("input_validation_failed", _caller(), resource=str(uri), reason=reason)
                    raise MCPError(code=INVALID_PARAMS, message=f"Invalid resource URI: {reason}") from None
                audit["outcome"] = "unknown" if isinstance(error, ResourceNotFoundError) else "failed"
                if isinstance(error, UnexpectedResourceError):
                    audit["outcome"] = "crashed"
                    self._events.record("tool_execution_failed", _caller(), resource=str(uri), reason="crash")
                raise
            except SystemExit:
                audit["outcome"] = "crashed"
                error_log.exception("resource crashed", uri=str(uri)[:200])
                self._events.record("tool_execution_failed", _caller(), resource=str(uri), reason="crash")
                raise MCPError(code=INTERNAL_ERROR, message="The resource failed") from None

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Render a prompt. An unknown name or a wrong argument is the caller's error, a crash is ours."""
        if name not in self._prompt_names:
            raise MCPError(code=INVALID_PARAMS, message="Unknown prompt")
        async with self._audited("prompt_get", prompt=name, arguments=_sizes(arguments or {})) as audit:
            try:
                return await super().get_prompt(name, arguments, context)
            except ValueError as error:
                if (reason := _prompt_rejection(error)) is not None:
                    audit["outcome"] = "rejected"
                    self._events.record("input_validation_failed", _caller(), prompt=name, reason=reason)
                    raise MCPError(code=INVALID_PARAMS, message=f"Invalid prompt arguments: {reason}") from None
                raise self._prompt_crashed(audit, name) from None
            except SystemExit:
                raise self._prompt_crashed(audit, name) from None

    def _rejected(self, audit: dict[str, Any], name: str, reason: str) -> CallToolResult:
        audit["outcome"] = "rejected"
        self._events.record("input_validation_failed", _caller(), tool=name, reason=reason)
        return _error_result(f"Invalid arguments: {reason}")

    def _crashed(
        self, audit: dict[str, Any], name: str, error: BaseException, cause: BaseException | None
    ) -> CallToolResult:
        audit["outcome"] = "crashed"
        error_log.error("tool crashed", tool=name, exc_info=error)
        self._events.record("tool_execution_failed", _caller(), tool=name, reason=type(cause).__name__)
        return _error_result(f"The tool {name} failed. The server's log says why.")

    def _prompt_crashed(self, audit: dict[str, Any], name: str) -> MCPError:
        audit["outcome"] = "crashed"
        error_log.exception("prompt crashed", prompt=name)
        self._events.record("tool_execution_failed", _caller(), prompt=name, reason="crash")
        return MCPError(code=INTERNAL_ERROR, message="The prompt failed")

    @asynccontextmanager
    async def _audited(self, action: str, **facts: object) -> AsyncIterator[dict[str, Any]]:
        """Write one audit line when the block ends, whichever way. The block sets `outcome` if it is not `ok`."""
        audit: dict[str, Any] = {"principal": _caller(), **facts, "outcome": "ok"}
        started = time.perf_counter()
        try:
            yield audit
        except MCPError:
            if audit["outcome"] == "ok":
                audit["outcome"] = "refused"
            raise
        except BaseException:
            if audit["outcome"] == "ok":
                audit["outcome"] = "cancelled"
            raise
        finally:
            audit_log.info(action, **audit, duration_ms=round((time.perf_counter() - started) * 1000, 2))


def _caller() -> str:
    principal = current_principal.get()
    return principal.id if principal is not None else "unknown"


def _sizes(arguments: dict[str, Any]) -> dict[str, int | None]:
    """What an audit line says of arguments: their names, bounded, and how many bytes of JSON each has."""
    return {str(name)[:64]: _size(value) for name, value in list(arguments.items())[:32]}


def _size(value: object) -> int | None:
    try:
        return len(pydantic_core.to_json(value))
    except ValueError:  # half of a surrogate pair: the check of the arguments will say so
        return None


def _error_result(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _distinct(what: str, names: list[str]) -> frozenset[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two {what}s have the same name: {', '.join(twice)}. Rename one, or list it once.")
    return frozenset(names)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _prompt_rejection(error: ValueError) -> str | None:
    """Return why the arguments of a prompt were refused, or None if it was not the arguments."""
    cause = _root(error)
    if isinstance(cause, ValidationError):
        return rejection(cause)
    if isinstance(cause, InvalidInput):
        return str(cause)
    return str(cause) if _MISSING.fullmatch(str(cause)) else None
