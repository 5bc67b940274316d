"""The one choke point: every tool call, resource read and prompt passes here, over HTTP of both eras and stdio.

What is served is fixed once the server is made: no tool can add, remove or replace another.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any, NoReturn

from mcp import MCPError, types
from mcp.server.mcpserver import Context, MCPServer
from pydantic import AnyUrl, BaseModel, ValidationError

from ..approval.lint import INSTRUCTIONS
from ..auth.principal import ALL_SCOPES, current_principal
from ..calls.arguments import Arguments, SchemaViolation, rejection
from ..calls.confirmation import LIFETIME, Confirmations, OpenQuestions
from ..calls.declarations import PromptPolicy, ResourcePolicy, ToolPolicy, policy_of
from ..calls.outcome import classify
from ..calls.output import Output, ResultTooLarge
from ..calls.pipeline import ToolGuard
from ..calls.record import ACTIONS, Recorder, audited, caller
from ..calls.running import HandleStore, Keeping
from ..calls.scopes import KINDS, NO_SCOPES, Access, missing_scopes, require
from ..calls.tools import GuardedTool, guarded_tool
from ..events.log import EventLog
from ..events.untrusted import declare, named
from ..limits.rate_limiter import LimiterFactory, RateLimiter
from ..limits.slots import Slots
from ..sinks.hidden import without_hidden
from ..state import with_state
from . import sdk

_CHANGES = ("add_tool", "remove_tool", "add_resource", "resource", "add_prompt", "remove_prompt", "completion")
_MAX_LISTINGS = 100
# Nothing of these changes while the process runs. A new release, or a key whose scopes have changed, shows to a client
# that keeps a list after this time at the latest; what a caller may do is judged at every call. Lists hold what one
# caller may use, so no two callers share one (SEP-2549).
_FROZEN: tuple[sdk.CacheableMethod, ...] = (
    *("tools/list", "resources/list", "resources/templates/list", "prompts/list", "server/discover"),
)


class GuardedServer(MCPServer[Any]):
    """An MCP server whose tools, resources and prompts are all called through the guard, and fixed once it is made.

    Args:
        name: the server's name for clients; also the audience of sealed request state.
        version: the project's version.
        instructions: for the model, on how to use the server.
        tools, resources, prompts: functions declared with `@tool`, `@resource` and `@prompt`.
        state: returns what tools share, once it is opened.
        events: where refusals and failures are noted.
        max_concurrent_calls: tool calls that may run at the same time, all tools together.
        output: what results may hold, and how large they are.
        make_limiter: makes the counters of the tools' calls per minute.
        recorder: records every call.
        questions: confirmations that all replicas share.
        state_keys: 32 bytes or more each: the first seals what clients carry between rounds, all open it; random if
            not given.
        bus: carries change notifications; within this process if not given.
        handles: keeps what tools put there; within this process if not given.

    Raises:
        ValueError: if two tools or two prompts have the same name, or two resources the same URI.
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
        state: Callable[[], Any] = lambda: None,
        events: EventLog,
        max_concurrent_calls: int = 100,
        output: Output | None = None,
        make_limiter: LimiterFactory = RateLimiter,
        recorder: Recorder | None = None,
        questions: OpenQuestions | None = None,
        state_keys: Sequence[bytes] = (),
        bus: sdk.SubscriptionBus | None = None,
        handles: HandleStore | None = None,
    ) -> None:
        self.events = events
        self._recorder = recorder or Recorder()
        self._output = output or Output(events=events)
        self._functions = {function.__name__ for function in (*resources, *prompts)}
        security = sdk.RequestStateSecurity(
            keys=state_keys or [os.urandom(32)], ttl=LIFETIME, bind_principal=lambda _: caller()
        )
        self._guard = ToolGuard(
            events=events,
            slots=Slots(max_concurrent_calls),
            output=self._output,
            recorder=self._recorder,
            keeping=Keeping(security.codec, handles or HandleStore()),
            confirmations=Confirmations(questions),
        )
        self.bus = bus or sdk.InMemorySubscriptionBus()
        for function in tools:
            policy_of(function, ToolPolicy)  # raises for what is no tool, before it is taken for a function
        guarded = [guarded_tool(with_state(function, state), make_limiter=make_limiter) for function in tools]
        _refuse_twice("tool", [entry.tool.name for entry in guarded])
        _refuse_twice("prompt", [function.__name__ for function in prompts])
        # The SDK would keep the first of two, the table of scopes the last.
        _refuse_twice("resource", [policy_of(function, ResourcePolicy).uri for function in resources])
        self.guarded_tools: Mapping[str, GuardedTool] = MappingProxyType({g.tool.name: g for g in guarded})
        self.access = Access(self.guarded_tools, resources, prompts)
        self.lists_all = frozenset[str]()  # kinds of callers whose lists also hold what they lack scopes for: `oauth`
        super().__init__(
            name,
            version=version,
            instructions=instructions,
            lifespan=lambda _: nullcontext(state()),
            tools=[entry.tool for entry in guarded],
            subscriptions=self.bus,
            request_state_security=security,
            cache_hints=dict.fromkeys(_FROZEN, sdk.CacheHint(ttl_ms=300_000, scope="private")),
        )
        declare(self.access.names | {name for g in guarded for name in g.tool.parameters.get("properties", ())})
        self.middleware.insert(0, self._outermost)
        self._listings: dict[tuple[str, frozenset[str]], sdk.HandlerResult] = {}
        self.middleware.append(self._list_once)
        self._lowlevel_server.add_request_handler("server/discover", types.RequestParams, self._discover)
        for function in resources:
            declared = policy_of(function, ResourcePolicy)
            self.resource(declared.uri, title=declared.title, mime_type=declared.mime_type)(with_state(function, state))
        for function in prompts:
            self.prompt(title=policy_of(function, PromptPolicy).title)(with_state(function, state))
        for change in _CHANGES:  # a completion would be called past the guard
            setattr(self, change, _refuse_change)

    # These methods are the SDK's. Calls pass the guard; lists hold what the caller may use, or may ask for.

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> types.CallToolResult | types.InputRequiredResult:
        guarded = self.guarded_tools.get(name)
        if guarded is None:
            self._refuse_unknown("tool", name)
        call_unguarded = super().call_tool
        return await self._guard.call(guarded, arguments, context, lambda given: call_unguarded(name, given, context))

    async def call_plain(self, tool: GuardedTool, arguments: dict[str, Any]) -> types.CallToolResult:
        """Call a plain tool, past the SDK's runner and models, which it does not need."""
        try:
            result = await self._guard.call(tool, arguments, None, tool.run)
        except MCPError as error:
            raise self._cleaned(error, "tools/call", {"tool": tool.tool.name}) from None
        assert isinstance(result, types.CallToolResult)  # noqa: S101  (a plain tool asks nothing)
        return result

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[sdk.ReadResourceContents] | types.InputRequiredResult:
        uri = str(uri)
        name, params = named(self.access.resource_of(uri)), {"uri": uri}
        required = self.access.required("resources/read", params)
        with self._guarded(params, required, data={"uri": without_hidden(uri)}, resource=name):
            return self._output.fit(await super().read_resource(uri, context), {"resource": name})

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> types.GetPromptResult | types.InputRequiredResult:
        prompt = self._prompt_manager.get_prompt(name)
        if prompt is None:
            self._refuse_unknown("prompt", name)
        given = arguments or {}
        with self._guarded(given, self.access.required("prompts/get", {"name": name}), prompt=name):
            if missing := {one.name for one in prompt.arguments or () if one.required} - given.keys():
                raise SchemaViolation(f"Missing required arguments: {missing}")
            return self._output.fit(await super().get_prompt(name, arguments, context), {"prompt": name})

    async def list_tools(self) -> list[types.Tool]:
        return [tool for tool in await super().list_tools() if self._may("tools/call", name=tool.name)]

    async def list_resources(self) -> list[types.Resource]:
        return [item for item in await super().list_resources() if self._may("resources/read", uri=item.uri)]

    async def list_resource_templates(self) -> list[types.ResourceTemplate]:
        templates = await super().list_resource_templates()
        return [item for item in templates if self._may("resources/read", uri=item.uri_template)]

    async def list_prompts(self) -> list[types.Prompt]:
        return [prompt for prompt in await super().list_prompts() if self._may("prompts/get", name=prompt.name)]

    async def _discover(self, ctx: sdk.ServerRequestContext[Any, Any], _: types.RequestParams) -> types.DiscoverResult:
        """Describe the server as the SDK does, except that its lists never change: subscriptions are for resources."""
        server = self._lowlevel_server
        capabilities = server.get_capabilities(protocol_version=ctx.protocol_version)
        for part in (capabilities.tools, capabilities.resources, capabilities.prompts):
            if part is not None:
                part.list_changed = False
        versions, instructions = list(sdk.MODERN_PROTOCOL_VERSIONS), server.instructions
        return types.DiscoverResult(supported_versions=versions, capabilities=capabilities, instructions=instructions)

    @property
    def other_texts(self) -> dict[str, Any]:
        """Texts for clients beside the tools, by kind and name."""
        manager = self._resource_manager
        items: dict[str, BaseModel] = {f"resource {item.uri}": item for item in manager.list_resources()}
        items |= {f"resource {item.uri_template}": item for item in manager.list_templates()}
        items |= {f"prompt {item.name}": item for item in self._prompt_manager.list_prompts()}
        told = {"name", "title", "description", "mime_type", "uri", "uri_template", "arguments"}
        texts = {key: item.model_dump(mode="json", include=told) for key, item in items.items()}
        return {INSTRUCTIONS: self.instructions, **texts}

    @contextmanager
    def _guarded(
        self, arguments: dict[str, Any], required: frozenset[str], *, data: Any = None, **what: str
    ) -> Iterator[None]:
        """Serve a resource or a prompt: its scopes, its audit line, and an error of the protocol if it fails."""
        (kind,) = what
        with audited(self._recorder, ACTIONS[kind], Arguments(arguments).encoded, **what) as audit:
            require(required, self.events, audit, what)
            try:
                yield
            except BaseException as error:
                outcome = classify(error, self._functions)
                if outcome is None:
                    raise
                outcome.note(error, self.events, audit, **what)
                code = types.INVALID_PARAMS if outcome.is_of_caller else types.INTERNAL_ERROR
                message = self._output.text(outcome.message, what) or f"The {kind} failed"
                raise MCPError(code=code, message=message, data=data) from None

    def _refuse_unknown(self, kind: str, name: str) -> NoReturn:
        """Refuse a name that is not declared. Guessed names are recorded too."""
        what = {kind: named(name)}
        with audited(self._recorder, ACTIONS[kind], **what) as audit:
            audit["outcome"] = "unknown"
            self.events.record("input_validation_failed", caller(), severity=None, reason="unknown", **what)
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown {kind}")

    def _may(self, method: str, **params: str) -> bool:
        """Whether the caller finds something in a list."""
        return self._lists_all() or not missing_scopes(self.access.required(method, params))

    def _lists_all(self) -> bool:
        principal = current_principal.get()
        return principal is not None and principal.kind in self.lists_all

    def forbidden(self, method: str, params: Mapping[str, Any]) -> types.ErrorData | None:
        """Return the error of an HTTP request whose caller lacks a scope, noted as that call; None if it lacks none."""
        required = self.access.required(method, params)
        if not missing_scopes(required):
            return None
        what, given = self.access.subject(method, params), params.get("arguments")
        encoded = Arguments(given if isinstance(given, dict) else {}).encoded
        line: AbstractContextManager[dict[str, Any]] = nullcontext({})
        for kind in what:
            line = audited(self._recorder, ACTIONS[kind], encoded, **what)
        try:
            with line as audit:
                require(required, self.events, audit, what, status=403)
        except MCPError as error:
            return error.error
        return None

    async def _outermost(self, ctx: sdk.ServerRequestContext[Any, Any], call_next: sdk.CallNext) -> sdk.HandlerResult:
        """Note what the SDK refuses before the guard sees it, and clean the errors that functions raise."""
        ctx.session = OutgoingSession(ctx.session, self._output)
        try:
            return await call_next(ctx)
        except ValidationError as error:
            if ctx.method not in KINDS:
                raise
            what = self.access.subject(ctx.method, ctx.params or {})
            self.events.record("input_validation_failed", caller(), severity=None, reason="params", **what)
            raise MCPError(code=types.INVALID_PARAMS, message=f"Invalid params: {rejection(error)}") from None
        except MCPError as error:
            what = self.access.subject(ctx.method, ctx.params or {})
            raise self._cleaned(error, ctx.method, what) from None

    def _cleaned(self, error: MCPError, method: str, what: Mapping[str, str]) -> MCPError:
        """Return an error of the protocol as it is sent."""
        data, reason = error.error.data, "invalid_confirmation"
        # An answer that is forged, expired, of another caller, or for other arguments.
        if isinstance(data, dict) and data.get("reason") == "invalid_request_state":
            self.events.record("input_validation_failed", caller(), severity=None, reason=reason, **what)
        try:
            error.error = self._output.fit(error.error, what)
        except (ResultTooLarge, ValueError):
            return MCPError(code=types.INTERNAL_ERROR, message=f"The {KINDS.get(method, 'request')} failed")
        return error

    async def _list_once(self, ctx: sdk.ServerRequestContext[Any, Any], call_next: sdk.CallNext) -> sdk.HandlerResult:
        """Keep the list of tools for every set of scopes: it never changes, and making a long one costs many calls."""
        # On stdio the handshake comes first, which the SDK checks further in.
        if ctx.method != "tools/list" or ctx.request is None or not (ctx.params or {}).keys() <= {"_meta"}:
            return await call_next(ctx)
        sdk.validate_client_request(ctx.method, ctx.protocol_version, ctx.params)
        principal = current_principal.get()
        held = principal.scopes & {ALL_SCOPES, *self.access.scopes} if principal is not None else NO_SCOPES
        key = ctx.protocol_version, frozenset({ALL_SCOPES}) if self._lists_all() else held
        listing = self._listings.get(key)
        if listing is None:
            listing = await call_next(ctx)
            if len(self._listings) < _MAX_LISTINGS:
                self._listings[key] = listing
        return listing


class OutgoingSession(sdk.ServerSession):
    """The SDK's session of one request. What a tool sends while it runs is filtered as results are."""

    def __init__(self, session: sdk.ServerSession, output: Output) -> None:
        vars(self).update(vars(session))
        self._output = output

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        cleaned = self._output.text(message, {"notification": "progress"}) if message else message
        await super().report_progress(progress, total, cleaned)

    async def send_request(self, request: Any, *arguments: Any, **options: Any) -> Any:
        # A user has to see what is asked, whatever it looks like.
        question = self._output.fit(request, {"request": request.method}, redact=False)
        return await super().send_request(question, *arguments, **options)

    async def _notify(self, notification: types.ServerNotification, *, request_scoped: bool) -> None:
        cleaned = self._output.fit(notification, {"notification": notification.method})
        await super()._notify(cleaned, request_scoped=request_scoped)


def _refuse_twice(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two {what}s have the same name: {', '.join(twice)}. Rename one, or list it once.")


def _refuse_change(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("the server's tools, resources and prompts are fixed: list them in TOOLS, RESOURCES, PROMPTS")
