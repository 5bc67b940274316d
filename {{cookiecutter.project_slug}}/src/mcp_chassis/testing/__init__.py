"""For the tests of a project: calls of one tool, a running server, and attacks on everything that it serves."""

from collections.abc import Callable, Mapping
from typing import Any

from mcp import Client
from mcp.types import CallToolResult

from ..auth.principal import STDIO, Principal, current_principal
from ..events.log import EventLog
from ..mcp.guarded_server import GuardedServer


async def call_tool(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    state: object = None,
    principal: Principal | None = None,
    **client: Any,
) -> CallToolResult:
    """Call one tool through the guard, as a client in this process. A refusal is a result with `is_error`.

    Args:
        function: declared with `@tool`.
        arguments: as a client sends them.
        state: for its parameters `Shared[...]`.
        principal: the caller; by default one that holds every scope.
        client: options of the SDK's `Client`, such as `elicitation_callback` for a tool that asks.
    """
    server = GuardedServer("test", tools=[function], state=lambda: state, events=EventLog())
    before = current_principal.set(principal or STDIO)
    try:
        async with Client(server, **client) as connected:
            return await connected.call_tool(function.__name__, dict(arguments))
    finally:
        current_principal.reset(before)
