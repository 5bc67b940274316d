"""What a call may do, and who makes it. Import from here: `from <package>.policy import tool, get_principal`."""

from .auth.principal import Principal, get_principal
from .calls.declarations import prompt, resource, tool

__all__ = ["Principal", "get_principal", "prompt", "resource", "tool"]
