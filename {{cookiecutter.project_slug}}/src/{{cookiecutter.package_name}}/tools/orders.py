"""The tools of the order desk. What waits for the database is a plain `def`, which runs in a thread."""

import json
from datetime import date
from typing import Annotated, Literal

from mcp.server.mcpserver import Elicit, Resolve
from pydantic import BaseModel

from mcp_chassis import Shared, tool
from mcp_chassis.sinks import Name

from ..desk import Desk, Rows
from ..orders import Item, NewOrder, Number, Order, Status, the_order, to_order

Carrier = Literal["post", "courier"]


class Shipment(BaseModel):
    """The form that the user fills in."""

    carrier: Carrier


class Stock(BaseModel):
    """What the stock service knows of an item."""

    item: str
    available: int


@tool(title="Find orders", scopes=("orders:read",), read_only=True, open_world=False)
def find_orders(
    rows: Rows, status: Status | None = None, customer: Name | None = None, due_by: date | None = None
) -> list[Order]:
    """List up to 100 orders, the oldest first."""
    query = (
        "SELECT * FROM orders WHERE tenant = ? AND status = COALESCE(?, status)"
        " AND customer = COALESCE(?, customer) AND COALESCE(due, '9999-12-31') <= ? ORDER BY id LIMIT 100"
    )
    return [to_order(row) for row in rows(query, status, customer, str(due_by or date.max))]


@tool(title="Place an order", scopes=("orders:write",), destructive=False, open_world=False)
def place_order(order: NewOrder, rows: Rows) -> Order:
    """Place an order of a customer."""
    insert = (
        "INSERT INTO orders (tenant, customer, due, lines, total, placed, status)"
        " VALUES (?, ?, ?, ?, ?, CURRENT_DATE, 'open') RETURNING *"
    )
    new, total = order.model_dump(mode="json"), sum(line.quantity * line.price for line in order.lines)
    return the_order(rows(insert, order.customer, new["due"], json.dumps(new["lines"]), str(total)))


def shipment(number: int, carrier: Carrier | None) -> Shipment | Elicit[Shipment]:
    """Ask the user for the carrier if the call names none."""
    return Shipment(carrier=carrier) if carrier else Elicit(f"Who ships order {number}?", Shipment)


@tool(title="Ship an order", scopes=("orders:write",), destructive=False, open_world=False)
def ship_order(
    number: Number, rows: Rows, by: Annotated[Shipment, Resolve(shipment)], carrier: Carrier | None = None
) -> str:
    """Ship an open order. The user is asked for the carrier if none is given."""
    update = "UPDATE orders SET status = 'shipped' WHERE tenant = ? AND id = ? AND status = 'open' RETURNING *"
    return f"Order {number} goes to {the_order(rows(update, number)).customer} by {by.carrier}."


@tool(title="Cancel an order", scopes=("orders:write",), destructive=True, open_world=False)
def cancel_order(number: Number, rows: Rows) -> Order:
    """Cancel an open order, which cannot be undone."""
    update = "UPDATE orders SET status = 'cancelled' WHERE tenant = ? AND id = ? AND status = 'open' RETURNING *"
    return the_order(rows(update, number))


@tool(title="Stock of an item", scopes=("orders:read",), read_only=True, open_world=False)
async def stock_of(item: Item, desk: Shared[Desk]) -> Stock:
    """Return how many pieces of an item are in stock."""
    return (await desk.stock.get("/items", item)).json_as(Stock)
