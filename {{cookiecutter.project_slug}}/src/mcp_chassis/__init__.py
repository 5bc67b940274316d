"""The chassis of a secured MCP server: everything between the network and the team's functions.

The team's package imports from here and from `mcp_chassis.sinks`. Start reading at `app.py`.
"""

from .auth.principal import Principal, get_principal
from .calls.declarations import prompt, resource, tool
from .service import Service, version_of
from .settings import Settings
from .state import Shared

__all__ = ["Principal", "Service", "Settings", "Shared", "get_principal", "prompt", "resource", "tool", "version_of"]
