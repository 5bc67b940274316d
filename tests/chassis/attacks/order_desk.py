"""Tools that answer nothing before there is something, and what lets their calls through."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from mcp_chassis import Service, Shared, tool
from mcp_chassis.settings import Settings

ORDERS = "orders.json"


def read_orders() -> dict[str, str]:
    """Return what there is by number."""
    return dict(json.loads(Path(ORDERS).read_text(encoding="utf-8"))) if Path(ORDERS).exists() else {}


@asynccontextmanager
async def open_orders(_: Settings) -> AsyncIterator[dict[str, str]]:
    """Read the orders once, as a state that the tools share."""
    yield read_orders()


@tool(read_only=True, calls_per_minute=1)
def show_order(orders: Shared[dict[str, str]], number: Annotated[str, Field(max_length=20)]) -> str:
    """Show an order, if there is one."""
    if number not in orders:
        raise ToolError("There is no such order.")
    return str(orders[number])


@tool(read_only=True)
def call_home() -> str:
    """Fail, as without the internet."""
    raise ToolError("The other server does not answer.")


SERVER = Service(module=__name__, lifespan=open_orders, tools=(show_order, call_home))
SAMPLES = {"show_order": [{"number": "2026-17"}] * 2}
UNPROVED = {"call_home": "it needs the internet"}


def prepare(directory: Path) -> None:
    """Make the state to start from."""
    (directory / ORDERS).write_text(json.dumps({"2026-17": "three chairs"}), encoding="utf-8")
