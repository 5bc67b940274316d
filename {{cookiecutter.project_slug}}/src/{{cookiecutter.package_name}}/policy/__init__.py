"""What a call may do, and who makes it. Import from here: `from <package>.policy import tool, get_principal`."""

from ..auth.principal import Principal, get_principal
from .declare import prompt, resource, tool

__all__ = ["Principal", "get_principal", "prompt", "resource", "tool"]
