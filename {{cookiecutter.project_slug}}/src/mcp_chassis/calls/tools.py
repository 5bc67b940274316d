"""Makes guarded tools of plain functions: strict arguments, annotations from the policy, threads for blocking work."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
from mcp.types import ToolAnnotations

from ..limits.rate_limiter import LimiterFactory, RateLimiter
from ..limits.slots import current_slot
from ..mcp import sdk
from .arguments import StrictMetadata, closed_schema
from .declarations import ToolPolicy, policy_of

_MAX_THREADS = 1000  # they cannot be stopped, so slots count them and not this


@dataclass(frozen=True, slots=True)
class GuardedTool:
    """A tool with what the guard knows about it."""

    tool: sdk.Tool
    policy: ToolPolicy
    blocking: bool
    limiter: RateLimiter | None


def guarded_tool(function: Callable[..., Any], *, make_limiter: LimiterFactory = RateLimiter) -> GuardedTool:
    """Return the guarded tool for `function`.

    Raises:
        TypeError: if it was not declared, or declares parameters that cannot be described.
    """
    policy = policy_of(function, ToolPolicy)
    annotations = ToolAnnotations(
        title=policy.title,
        read_only_hint=policy.read_only,
        destructive_hint=policy.destructive,
        idempotent_hint=policy.idempotent,
        open_world_hint=policy.open_world,
    )
    tool = sdk.Tool.from_function(function, title=policy.title, annotations=annotations)
    tool.fn_metadata = StrictMetadata(**dict(tool.fn_metadata))
    tool.parameters = closed_schema(tool.parameters)
    blocking = not inspect.iscoroutinefunction(inspect.unwrap(function))
    if blocking:
        tool.fn, tool.is_async = _in_thread(function), True
    calls = policy.calls_per_minute
    limiter = make_limiter(f"tool:{tool.name}", per_minute=calls, burst=calls) if calls is not None else None
    return GuardedTool(tool, policy, blocking, limiter)


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
