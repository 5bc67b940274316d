"""What a call may do. Import from here: `from <package>.policy import tool, resource, prompt`."""

from .declare import prompt, resource, tool

__all__ = ["prompt", "resource", "tool"]
