"""Rows of one tenant are never seen or changed by another, whatever is called."""

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from mcp_chassis import Principal
from mcp_chassis.auth.principal import current_principal
from mcp_chassis.testing import call_tool
from mcp_chassis.testing.running import text

from {{ cookiecutter.package_name }}.desk import Desk, rows_of_caller
from {{ cookiecutter.package_name }}.tools.orders import cancel_order, find_orders, place_order, ship_order
from {{ cookiecutter.package_name }}.tools.sales import sales_chart

TENANTS = ("north", "south")
CALLS = 1000


def caller(kind: Any = "key", **claims: Any) -> Principal:
    return Principal("key:test", kind, frozenset({"*"}), claims)


async def yes(*_: object) -> Any:
    from mcp.types import ElicitResult

    return ElicitResult(action="accept", content={"confirm": True})


def arguments(choose: Random, tenant: str, number: int) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """Return a call at random: of an order of either tenant, or one that is not there."""
    line = {"item": "TE-100", "quantity": choose.randint(1, 9), "price": "1.00"}
    return choose.choice(
        [
            (place_order, {"order": {"customer": f"Customer of {tenant}", "lines": [line]}}),
            (find_orders, choose.choice([{}, {"status": "open"}, {"customer": f"Customer of {choose.choice(TENANTS)}"}])),
            (ship_order, {"number": number, "carrier": "post"}),
            (cancel_order, {"number": number}),
        ]
    )


@pytest.mark.anyio
async def test_two_tenants_never_see_or_change_each_others_orders(desk: Desk) -> None:
    choose, orders = Random(15), dict[int, tuple[str, str]]()  # noqa: S311 - the same calls every time
    for _ in range(CALLS):
        tenant, other = choose.sample(TENANTS, 2)
        number = choose.choice([*orders, 1, 999])
        tool, given = arguments(choose, tenant, number)
        result = await call_tool(tool, given, state=desk, principal=caller(tenant=tenant), elicitation_callback=yes)
        assert f"Customer of {other}" not in text(result), (tool.__name__, given)
        if tool is find_orders:
            mine = {number: status for number, (owner, status) in orders.items() if owner == tenant}
            ...
