"""A tool that takes its time and says how far it is."""

from typing import Annotated

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_chassis import tool
from mcp_chassis.sinks import Text


@tool(title="Count words", read_only=True, open_world=False)
async def count_words(text: Annotated[Text, Field(description="What to count in")], context: Context) -> int:
    """Count the words of a text, reporting progress on the way."""
    lines = text.splitlines()
    step = len(lines) // 20 + 1
    words = 0
    for number, line in enumerate(lines, start=1):
        words += len(line.split())
        if number % step == 0 or number == len(lines):
            await context.report_progress(number, len(lines))
    return words
