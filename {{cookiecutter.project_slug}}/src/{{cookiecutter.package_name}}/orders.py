"""What an order is: as callers send it, as they get it, and as it is kept."""

import json
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from pydantic import BaseModel, Field

from mcp_chassis.sinks import Name

Item = Annotated[str, Field(pattern="^[A-Z]{2}-[0-9]{3}$", max_length=6, description="Item", examples=["TE-100"])]
Number = Annotated[int, Field(ge=1, le=2**31 - 1, description="Number of the order")]


class Status(StrEnum):
    """What has become of an order."""

    OPEN = "open"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


class Line(BaseModel):
    """Some pieces of one item."""

    item: Item
    quantity: Annotated[int, Field(ge=1, le=1000)]
    price: Annotated[Decimal, Field(ge=0, max_digits=7, decimal_places=2, description="Price of one piece")]


class NewOrder(BaseModel):
    """What a customer asks for."""

    customer: Name
    due: date | None = None
    lines: Annotated[list[Line], Field(min_length=1, max_length=50)]


class Order(NewOrder):
    """An order as it is kept."""

    id: int
    status: Status
    placed: date
    total: Decimal


def to_order(row: dict[str, Any]) -> Order:
    """Return the order in a row of the database."""
    return Order.model_validate(row | {"lines": json.loads(row["lines"])})


def the_order(rows: list[dict[str, Any]]) -> Order:
    """Return the order that a statement has found or changed."""
    if not rows:
        raise ResourceNotFoundError("There is no such order, or it is not open.")
    return to_order(rows[0])
