"""Builds the MCP server from what the team lists: `TOOLS`, `RESOURCES` and `PROMPTS`. Nothing is added later."""

import structlog
from TEAM import __version__
from TEAM.prompts import PROMPTS
from TEAM.resources import RESOURCES
from TEAM.tools import TOOLS

from .approval.check import objections
from .events.log import EventLog
from .limits.rate_limiter import LimiterFactory, RateLimiter
from .mcp.guarded_server import GuardedServer
from .replicas.fleet import Fleet
from .settings import Settings, SettingsError

NAME = __name__.partition(".")[0].replace("_", "-")


log = structlog.get_logger("tools")


def build_server(
    events: EventLog, settings: Settings, *, fleet: Fleet | None = None, make_limiter: LimiterFactory = RateLimiter
) -> GuardedServer:
    """Return the server that HTTP and stdio both serve.

    Args:
        events: where the guard notes refusals and failures.
        settings: its limits.
        fleet: what it shares with other replicas.
        make_limiter: makes the counters of the tools' calls.

    Raises:
        SettingsError: in production, if the tools are not as approved in the lock file.
    """
    server = unchecked_server(events, settings, fleet=fleet, make_limiter=make_limiter)
    if against := objections(server.guarded_tools, settings.tools_lock, server.other_texts):
        if settings.environment == "production":
            raise SettingsError(against)
        for line in against:
            log.warning(line, hint="in production the server would not start")
    return server


def unchecked_server(
    events: EventLog, settings: Settings, *, fleet: Fleet | None = None, make_limiter: LimiterFactory = RateLimiter
) -> GuardedServer:
    """Return the server with its tools as they are, for commands that look at them."""
    return GuardedServer(
        NAME,
        version=__version__,
        tools=TOOLS,
        resources=RESOURCES,
        prompts=PROMPTS,
        events=events,
        max_concurrent_calls=settings.max_concurrent_calls,
        max_result_bytes=settings.max_result_bytes,
        make_limiter=make_limiter,
        state_keys=settings.state_keys if fleet is not None else (),
        bus=fleet.bus if fleet is not None else None,
        questions=fleet.questions if fleet is not None else None,
    )
