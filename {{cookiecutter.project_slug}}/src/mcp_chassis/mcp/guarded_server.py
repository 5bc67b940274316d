"""The one choke point: every tool call, resource read and prompt passes here, over HTTP of both eras and over stdio.

What is served is fixed once the server is made: no tool can add, remove or replace another.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import structlog
from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
)
from mcp.types import Prompt as PromptListing
from mcp.types import Resource as ResourceListing
from mcp.types import ResourceTemplate as TemplateListing
from mcp.types import Tool as ToolListing
from pydantic import AnyUrl, ValidationError

from ..approval.lint import INSTRUCTIONS
from ..auth.principal import ALL_SCOPES, current_principal
from ..calls.arguments import broken_rule, rejection
from ..calls.confirmation import LIFETIME, OpenQuestions
from ..calls.declarations import PromptPolicy, ResourcePolicy, policy_of
from ..calls.output import ResultTooLarge, error_text, fit_to_send
from ..calls.pipeline import ToolGuard, would_end_the_server
from ..calls.record import audited, caller
from ..calls.recorder import Recorder
from ..calls.scopes import NO_SCOPES, Access, missing_scopes, require
from ..calls.tools import GuardedTool, guarded_tool
from ..events.log import EventLog, Severity
from ..events.untrusted import declare, named
from ..limits.rate_limiter import LimiterFactory, RateLimiter
from ..sinks.errors import InvalidInput
from ..sinks.hidden import without_hidden
from .sdk import (
    CallNext,
    HandlerResult,
    InMemorySubscriptionBus,
    Prompt,
    ReadResourceContents,
    RequestStateSecurity,
    Resource,
    ResourceError,
    ResourceNotFoundError,
    ServerRequestContext,
    SubscriptionBus,
    UnexpectedResourceError,
    validate_client_request,
)

# What the SDK says; a prompt's own text could only pass for it by being a set of names.
_MISSING = re.compile(r"Missing required arguments: \{('\w+'(, )?)+\}")

_Result = TypeVar("_Result")

_KINDS: Mapping[str, str] = MappingProxyType(
    {"tools/call": "tool", "resources/read": "resource", "prompts/get": "prompt"}
)
_SEVERITY: Mapping[str, Severity] = MappingProxyType(
    {"rejected": "medium", "unknown": "medium", "too_large": "low", "failed": "low", "crashed": "high"}
)

_MOST_LISTINGS = 100

error_log = structlog.get_logger("error")


class GuardedServer(MCPServer[Any]):
    """An MCP server whose tools, resources and prompts are all called through the guard, and fixed once it is made.

    Args:
        name: what clients are told; also the audience of sealed request state.
        version: the project's version.
        instructions: for the model, on how to use the server.
        tools: functions declared with `@tool`.
        resources: functions declared with `@resource`.
        prompts: functions declared with `@prompt`.
        lifespan: opens and closes what tools share.
        events: where refusals and failures are noted.
        max_concurrent_calls: tool calls that may run at the same time, all tools together.
        max_result_bytes: largest result of a tool, a resource or a prompt.
        state_keys: 32 bytes or more each: the first seals what clients carry between rounds, all open it; random if
            not given.
        make_limiter: makes the counters of the tools' calls.
        bus: carries change notifications; within this process if not given.
        questions: to people, that all replicas know of.
        recorder: records every call.

    Raises:
        ValueError: if two tools or two prompts have the same name.
        TypeError: if a function has not been declared.
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
        lifespan: Callable[[MCPServer[Any]], AbstractAsyncContextManager[Any]] | None = None,
        events: EventLog,
        max_concurrent_calls: int = 100,
        max_result_bytes: int = 1_048_576,
        state_keys: Sequence[bytes] = (),
        make_limiter: LimiterFactory = RateLimiter,
        bus: SubscriptionBus | None = None,
        questions: OpenQuestions | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._frozen = False
        self.events = events
        self._max_result_bytes = max_result_bytes
        self._functions = {function.__name__ for function in (*resources, *prompts)}
        self._guard = ToolGuard(
            events=events,
            max_concurrent_calls=max_concurrent_calls,
            max_result_bytes=max_result_bytes,
            questions=questions,
            recorder=recorder,
        )
        self._recorder = recorder or Recorder()
        self.bus = bus or InMemorySubscriptionBus()
        guarded = [guarded_tool(function, make_limiter=make_limiter) for function in tools]
        _refuse_twice("tool", [entry.tool.name for entry in guarded])
        _refuse_twice("prompt", [function.__name__ for function in prompts])
        # The SDK would keep the first of two, the table of scopes the last.
        _refuse_twice("resource", [policy_of(function, ResourcePolicy).uri for function in resources])
        self.guarded_tools: Mapping[str, GuardedTool] = MappingProxyType({g.tool.name: g for g in guarded})
        self.access = Access(self.guarded_tools, resources, prompts)
        security = RequestStateSecurity(
            keys=state_keys or [os.urandom(32)], ttl=LIFETIME, bind_principal=lambda _: caller()
        )
        super().__init__(
            name,
            version=version,
            instructions=instructions,
            lifespan=lifespan,
            tools=[entry.tool for entry in guarded],
            subscriptions=self.bus,
            request_state_security=security,
        )
        declare(self.access.names | {name for g in guarded for name in g.tool.parameters.get("properties", ())})
        self.middleware.insert(0, self._outermost)
        self._listings: dict[tuple[str, frozenset[str]], HandlerResult] = {}
        self.middleware.append(self._list_once)
        for function in resources:
            declared = policy_of(function, ResourcePolicy)
            self.resource(declared.uri, title=declared.title, mime_type=declared.mime_type)(function)
        for function in prompts:
            self.prompt(title=policy_of(function, PromptPolicy).title)(function)
        self._frozen = True

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool through the guard."""
        guarded = self.guarded_tools.get(name)
        if guarded is None:
            await self._unknown("tool_call", "tool", name)
        call_unguarded = super().call_tool
        return await self._guard.call(guarded, arguments, context, lambda: call_unguarded(name, arguments, context))

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource through the guard."""
        uri = str(uri)
        name = named(self.access.resource_of(uri))
        with audited(self._recorder, "resource_read", {"uri": uri}, resource=name) as audit:
            require(self.access.required("resources/read", {"uri": uri}), self.events, audit, resource=name)
            with self._explained(audit, "resource", name, uri):
                return self._fit(await super().read_resource(uri, context), resource=name)

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Render a prompt through the guard."""
        if not self.access.has_prompt(name):
            await self._unknown("prompt_get", "prompt", name)
        with audited(self._recorder, "prompt_get", arguments or {}, prompt=name) as audit:
            require(self.access.required("prompts/get", {"name": name}), self.events, audit, prompt=name)
            with self._explained(audit, "prompt", name):
                return self._fit(await super().get_prompt(name, arguments, context), prompt=name)

    async def list_tools(self) -> list[ToolListing]:
        """List the tools that the caller may call."""
        return [tool for tool in await super().list_tools() if self._visible("tools/call", "name", tool.name)]

    async def list_resources(self) -> list[ResourceListing]:
        """List the resources that the caller may read."""
        return [item for item in await super().list_resources() if self._visible("resources/read", "uri", item.uri)]

    async def list_resource_templates(self) -> list[TemplateListing]:
        """List the resource templates that the caller may read from."""
        templates = await super().list_resource_templates()
        return [item for item in templates if self._visible("resources/read", "uri", item.uri_template)]

    async def list_prompts(self) -> list[PromptListing]:
        """List the prompts that the caller may get."""
        return [prompt for prompt in await super().list_prompts() if self._visible("prompts/get", "name", prompt.name)]

    async def _unknown(self, action: str, kind: str, name: str) -> NoReturn:
        """Refuse a name that nobody has declared. Guessing names leaves a trail."""
        what = {kind: named(name)}
        with audited(self._recorder, action, **what) as audit:
            audit["outcome"] = "unknown"
            self.events.record("input_validation_failed", caller(), severity=None, reason="unknown", **what)
            raise MCPError(code=INVALID_PARAMS, message=f"Unknown {kind}")

    @contextmanager
    def _explained(self, audit: dict[str, Any], kind: str, name: str, uri: str | None = None) -> Iterator[None]:
        """Make an outcome, an event and an error of the protocol of whatever a resource or a prompt ends with."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, ResourceError | ResultTooLarge | ValueError) and not would_end_the_server(error):
                raise
            outcome, reason, said = self._judge(error)
            audit["outcome"] = outcome
            theirs = outcome in {"rejected", "unknown"}
            self.events.record(
                "input_validation_failed" if theirs else "tool_execution_failed",
                caller(),
                severity=_SEVERITY[outcome],
                reason=reason,
                **{kind: name},
            )
            if outcome == "crashed":
                said = f"The {kind} failed"
                error_log.exception(f"{kind} crashed", **{kind: name})
            code = INVALID_PARAMS if theirs else INTERNAL_ERROR
            data = {"uri": without_hidden(uri)} if uri is not None else None
            raise MCPError(code=code, message=said, data=data) from None

    def _judge(self, error: BaseException) -> tuple[str, str, str]:
        """Return the outcome, the reason for the event, and what the caller is told. A crash does not speak."""
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        # The function's own models have other titles, and what they say may be a secret.
        if isinstance(cause, ValidationError) and cause.title in self._functions:
            return "rejected", broken_rule(cause), f"Invalid arguments: {rejection(cause)}"
        if isinstance(cause, InvalidInput) or _MISSING.fullmatch(str(error)):
            return "rejected", broken_rule(cause), f"Invalid arguments: {cause}"
        if isinstance(error, ResourceNotFoundError):
            return "unknown", "unknown", error_text(error)
        if isinstance(error, ResultTooLarge):
            return "too_large", "too_large", str(error)
        if isinstance(error, ResourceError) and not isinstance(error, UnexpectedResourceError):
            return "failed", "failed", error_text(error)
        return "crashed", "crashed", ""

    def _fit(self, result: _Result, **what: str) -> _Result:
        return fit_to_send(result, self.events, max_bytes=self._max_result_bytes, **what)

    @property
    def other_texts(self) -> dict[str, Any]:
        """What clients are told beside the tools, by kind and name."""
        manager = self._resource_manager
        listed = {f"resource {item.uri}": item for item in manager.list_resources()}
        templates = {f"resource {item.uri_template}": item for item in manager.list_templates()}
        prompts = {f"prompt {item.name}": item for item in self._prompt_manager.list_prompts()}
        told = {"name", "title", "description", "mime_type", "uri", "uri_template", "arguments"}
        items = {**listed, **templates, **prompts}
        texts = {key: item.model_dump(mode="json", include=told) for key, item in items.items()}
        return {INSTRUCTIONS: self.instructions, **texts}

    def _visible(self, method: str, member: str, name: str) -> bool:
        return not missing_scopes(self.access.required(method, {member: name}))

    async def _outermost(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Note what the SDK refuses before the guard sees it, and clean the errors that functions raise."""
        kind = _KINDS.get(ctx.method)
        if kind is None:
            return await call_next(ctx)

        def what() -> dict[str, str]:
            name = str((ctx.params or {}).get("uri" if kind == "resource" else "name", ""))
            return {kind: named(self.access.resource_of(name) if kind == "resource" else name)}

        try:
            return await call_next(ctx)
        except ValidationError as error:
            self.events.record("input_validation_failed", caller(), severity=None, reason="params", **what())
            raise MCPError(code=INVALID_PARAMS, message=f"Invalid params: {rejection(error)}") from None
        except MCPError as error:
            data = error.error.data
            # An answer that is forged, expired, somebody else's, or for other arguments.
            if isinstance(data, dict) and data.get("reason") == "invalid_request_state":
                reason = "invalid_confirmation"
                self.events.record("input_validation_failed", caller(), severity=None, reason=reason, **what())
            try:
                error.error = self._fit(error.error, **what())
            except (ResultTooLarge, ValueError):
                raise MCPError(code=INTERNAL_ERROR, message=f"The {kind} failed") from None
            raise

    async def _list_once(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Keep the list of tools for every set of scopes: it never changes, and to make a long one costs many calls."""
        # On stdio the handshake comes first, which the SDK watches over further in.
        if ctx.method != "tools/list" or ctx.request is None or not (ctx.params or {}).keys() <= {"_meta"}:
            return await call_next(ctx)
        validate_client_request(ctx.method, ctx.protocol_version, ctx.params)
        principal = current_principal.get()
        held = principal.scopes & {ALL_SCOPES, *self.access.scopes} if principal is not None else NO_SCOPES
        key = ctx.protocol_version, held
        listing = self._listings.get(key)
        if listing is None:
            listing = await call_next(ctx)
            if len(self._listings) < _MOST_LISTINGS:
                self._listings[key] = listing
        return listing

    def add_tool(self, *args: Any, **options: Any) -> None:
        """Refuse: tools are listed in `TOOLS`."""
        _refuse_change()

    def remove_tool(self, name: str) -> None:
        """Refuse: tools are listed in `TOOLS`."""
        _refuse_change()

    def remove_prompt(self, name: str) -> None:
        """Refuse: prompts are listed in `PROMPTS`."""
        _refuse_change()

    def completion(self) -> NoReturn:
        """Refuse: a completion would be called past the guard."""
        _refuse_change()

    def add_prompt(self, prompt: Prompt) -> None:
        """Add a prompt while the server is made."""
        if self._frozen:
            _refuse_change()
        super().add_prompt(prompt)

    def resource(  # type: ignore[override]  # the options are the SDK's
        self, uri: str, **options: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add a resource while the server is made."""
        if self._frozen:
            _refuse_change()
        return super().resource(uri, **options)

    def add_resource(self, resource: Resource) -> None:
        """Add a resource while the server is made."""
        if self._frozen:
            _refuse_change()
        super().add_resource(resource)


def _refuse_twice(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two {what}s have the same name: {', '.join(twice)}. Rename one, or list it once.")


def _refuse_change() -> NoReturn:
    raise RuntimeError("the server's tools, resources and prompts are fixed: list them in TOOLS, RESOURCES, PROMPTS")
