"""The tools of the replicas under test. Each process says who it is, and leaves a trace of what it did."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_chassis import Service, tool

Id = Annotated[str, Field(max_length=40)]


@tool(read_only=True)
async def who() -> str:
    """Say which process answers."""
    return str(os.getpid())


@tool(read_only=True, calls_per_minute=6)
async def six_a_minute() -> str:
    """Answer six times."""
    return "ok"


@tool(destructive=False)
async def record(number: Id) -> str:
    """Leave a trace, once."""
    with Path("trace").open("a", encoding="utf-8") as trace:  # noqa: ASYNC230
        trace.write(f"{number}\n")
    return number


@tool(destructive=False)
async def record_slowly(number: Id) -> str:
    """Leave a trace, and answer later."""
    await record(number)
    await asyncio.sleep(20)
    return number


@tool()
async def destroy(number: Id) -> str:
    """Leave a trace, after the user has confirmed."""
    return await record(number)


@tool(destructive=False)
async def change(uri: Id, context: Context[Any, Any]) -> str:
    """Tell everybody that a resource has changed."""
    await context.notify_resource_updated(uri)
    return uri


SERVER = Service(module=__name__, tools=(who, six_a_minute, record, record_slowly, destroy, change))
