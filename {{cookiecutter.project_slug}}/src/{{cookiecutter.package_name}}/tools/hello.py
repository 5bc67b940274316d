"""The smallest honest tool: typed, bounded, and careful with its input."""

from typing import Annotated

from pydantic import Field

from mcp_chassis import tool
from mcp_chassis.sinks import sanitize_input


@tool(title="Greet", read_only=True, open_world=False)
async def hello_world(
    name: Annotated[str, Field(min_length=1, max_length=100, description="Whom to greet")] = "World",
) -> str:
    """Greet a person by name."""
    return f"Hello, {sanitize_input(name)}!"
