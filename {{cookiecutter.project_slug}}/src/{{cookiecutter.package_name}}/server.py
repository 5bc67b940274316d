"""Builds the MCP server from what the team lists: `TOOLS`, `RESOURCES` and `PROMPTS`. Nothing is added later."""

from . import __version__
from .observability.events import EventLog
from .policy.guard import GuardedServer
from .prompts import PROMPTS
from .resources import RESOURCES
from .tools import TOOLS


def build_server(events: EventLog) -> GuardedServer:
    """Return the server that HTTP and stdio both serve.

    Args:
        events: where the guard notes refusals and failures.
    """
    name = __name__.partition(".")[0].replace("_", "-")
    return GuardedServer(name, version=__version__, tools=TOOLS, resources=RESOURCES, prompts=PROMPTS, events=events)
