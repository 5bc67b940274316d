"""Makes guarded tools of plain functions: strict arguments, annotations from the policy, threads for blocking work."""

import functools
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import BaseModel, PydanticUserError
from pydantic_core import SchemaError

from ..limits.rate_limiter import LimiterFactory, RateLimiter
from ..limits.slots import current_slot
from ..mcp import sdk
from .arguments import StrictMetadata
from .declarations import ToolPolicy, policy_of
from .exact import Inexact, InvalidTool, exact
from .result_schema import result_check

_REMEDY = "Annotate every parameter with a type of JSON, and convert its value in the tool."
_NO_CONTEXT: Any = None
_MAX_THREADS = 1000  # they cannot be stopped, so slots count them and not this


@dataclass(frozen=True, slots=True)
class GuardedTool:
    """A tool with what the guard knows about it."""

    tool: sdk.Tool
    policy: ToolPolicy
    blocking: bool
    limiter: RateLimiter | None
    check_result: Callable[[Any], None]  # raises `InvalidResult` for a structure that breaks the output schema
    is_plain: bool  # takes arguments and returns a structure, without the SDK's context and without questions

    async def run(self, arguments: dict[str, Any]) -> CallToolResult | InputRequiredResult:
        """Call the function of a plain tool."""
        result: CallToolResult | InputRequiredResult = await self.tool.run(arguments, _NO_CONTEXT, convert_result=True)
        return result


def guarded_tool(function: Callable[..., Any], *, make_limiter: LimiterFactory = RateLimiter) -> GuardedTool:
    """Return the guarded tool for `function`; a `TypeError` says why it cannot be served."""
    policy = policy_of(function, ToolPolicy)
    tool, check_result = _described(function, policy)
    blocking = not inspect.iscoroutinefunction(inspect.unwrap(function))
    if blocking:
        tool.fn, tool.is_async = _in_thread(function), True
    calls = policy.calls_per_minute
    limiter = make_limiter(f"tool:{tool.name}", per_minute=calls, burst=calls) if calls is not None else None
    needs_sdk = policy.confirm or tool.context_kwarg or _may_ask(tool, function) or not tool.name.isascii()
    is_plain = not needs_sdk and tool.output_schema is not None and "x-mcp-header" not in json.dumps(tool.parameters)
    return GuardedTool(tool, policy, blocking, limiter, check_result, is_plain)


def _described(function: Callable[..., Any], policy: ToolPolicy) -> tuple[sdk.Tool, Callable[[Any], None]]:
    name = getattr(function, "__name__", repr(function))
    # Python 3.13 removes the indentation of docstrings: what is locked must not depend on the interpreter.
    text = inspect.cleandoc(function.__doc__ or "")
    hints = ToolAnnotations(
        title=policy.title,
        read_only_hint=policy.read_only,
        destructive_hint=policy.destructive,
        idempotent_hint=policy.idempotent,
        open_world_hint=policy.open_world,
    )
    try:
        tool = sdk.Tool.from_function(function, title=policy.title, description=text, annotations=hints)
        named, given = inspect.signature(function).parameters, tool.fn_metadata.arg_model.model_fields
        if taken := given.keys() & set(dir(BaseModel)):  # the tool would get that attribute
            raise InvalidTool(f"the tool {name} cannot be served: rename {', '.join(taken)}, which pydantic reserves.")
        fields = {field if field in named else info.alias or field: field for field, info in given.items()}
        tool.parameters, validator = exact(tool.fn_metadata.arg_model)
        tool.fn_metadata = StrictMetadata(
            **dict(tool.fn_metadata),
            fields=fields,
            validator=validator,
            returns_text=inspect.signature(function, eval_str=True).return_annotation is str,
            may_ask=_may_ask(tool, function),
        )
        return tool, result_check(tool.output_schema or {})
    except Inexact as error:
        raise InvalidTool(f"the tool {name} cannot be served: {error}.") from None
    except (PydanticUserError, sdk.InvalidSignature, NameError, SchemaError) as error:
        lines, reason = str(error).splitlines(), re.findall('Field "(.+?)":', str(error))
        reason.append(lines[-1].strip() if isinstance(error, SchemaError) else lines[0].rstrip("."))
        raise TypeError(f"the tool {name} cannot be served: {': '.join(reason)}. {_REMEDY}") from error


def _may_ask(tool: sdk.Tool, function: Callable[..., Any]) -> bool:
    return bool(tool.resolved_params) or sdk.returns_input_required(function)


def _in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap blocking work so that its call ends at the deadline, while the slot stays taken until the thread ends."""
    limiter: anyio.CapacityLimiter | None = None

    @functools.wraps(function)
    async def run(**arguments: Any) -> Any:
        nonlocal limiter
        limiter = limiter or anyio.CapacityLimiter(_MAX_THREADS)  # needs a running loop
        slot = current_slot.get()

        def work() -> Any:
            if not slot.keep():
                return None  # the call ended before the thread began
            try:
                return function(**arguments)
            except Exception:
                raise
            except BaseException as error:  # it would end the event loop
                raise RuntimeError(f"the tool raised {type(error).__name__}") from error
            finally:
                slot.release(by_thread=True)

        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)

    return run
