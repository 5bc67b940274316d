"""Tools that answer nothing before there is something, and what lets their calls through."""

import json
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from mcp_chassis import Service, tool

ORDERS = "orders.json"


@tool(read_only=True)
def show_order(number: Annotated[str, Field(max_length=20)]) -> str:
    """Show an order, if there is one."""
    orders = json.loads(Path(ORDERS).read_text(encoding="utf-8")) if Path(ORDERS).exists() else {}
    if number not in orders:
        raise ToolError("There is no such order.")
    return str(orders[number])


@tool(read_only=True)
def call_home() -> str:
    """Fail, as without the internet."""
    raise ToolError("The other server does not answer.")


SERVER = Service(module=__name__, tools=(show_order, call_home))
SAMPLES = {"show_order": [{"number": "2026-17"}]}
UNPROVED = {"call_home": "it needs the internet"}


def prepare(directory: Path) -> None:
    """Make the state to start from."""
    (directory / ORDERS).write_text(json.dumps({"2026-17": "three chairs"}), encoding="utf-8")
