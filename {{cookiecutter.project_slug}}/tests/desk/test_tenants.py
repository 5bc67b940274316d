"""Orders of one tenant are never seen or changed by another, whatever is called."""

from random import Random
from typing import Any

import pytest
from mcp.types import ElicitResult

from mcp_chassis import Principal
from mcp_chassis.testing import call_tool
from mcp_chassis.testing.running import text

from {{ cookiecutter.package_name }}.desk import Desk
from {{ cookiecutter.package_name }}.tools.orders import cancel_order, find_orders, place_order, ship_order

pytestmark = pytest.mark.anyio

TENANTS = ("north", "south")
CALLS = 1000
TOOLS = {tool.__name__: tool for tool in (place_order, find_orders, ship_order, cancel_order)}


def caller(kind: Any = "key", **claims: Any) -> Principal:
    """Return a caller as a verifier makes it."""
    return Principal("key:test", kind, frozenset({"*"}), claims)


async def agree(*_: object) -> ElicitResult:
    """Confirm everything."""
    return ElicitResult(action="accept", content={"confirm": True})


class Ledger:
    """What has to be in the database, as two tenants call tools at random."""

    def __init__(self) -> None:
        self.choose = Random(15)  # noqa: S311 - the same calls every time
        self.orders: dict[int, tuple[str, str]] = {}  # tenant and status

    def call(self, tenant: str) -> tuple[str, dict[str, Any]]:
        """Return a call, as likely of an order of the other tenant as of one's own."""
        line = {"item": "TE-100", "quantity": self.choose.randint(1, 9), "price": "1.00"}
        number = self.choose.choice([*self.orders, 1, 999])
        calls: list[tuple[str, dict[str, Any]]] = [
            ("place_order", {"order": {"customer": tenant, "lines": [line]}}),
            ("find_orders", {"status": "open", "customer": self.choose.choice(TENANTS)}),
            ("ship_order", {"number": number, "carrier": "post"}),
            ("cancel_order", {"number": number}),
        ]
        return self.choose.choice(calls)

    def numbers(self, tenant: str, status: str) -> list[int]:
        """Return the orders of a tenant."""
        return [number for number, order in self.orders.items() if order == (tenant, status)]


async def test_two_tenants_never_see_or_change_each_others_orders(desk: Desk) -> None:
    ledger = Ledger()
    for _ in range(CALLS):
        tenant = ledger.choose.choice(TENANTS)
        name, given = ledger.call(tenant)
        result = await call_tool(
            TOOLS[name], given, state=desk, principal=caller(tenant=tenant), elicitation_callback=agree
        )
        found: Any = result.structured_content
        if name == "place_order":
            ledger.orders[found["id"]] = (tenant, "open")
        elif name == "find_orders":
            expected = ledger.numbers(tenant, "open")[:100] if given["customer"] == tenant else []
            assert [order["id"] for order in found["result"]] == expected, given
        else:
            is_mine = ledger.orders.get(given["number"]) == (tenant, "open")
            assert result.is_error is not is_mine, (name, given)
            if is_mine:
                ledger.orders[given["number"]] = (tenant, "shipped" if name == "ship_order" else "cancelled")
    for tenant in TENANTS:  # nothing has changed unseen
        for status in ("open", "shipped", "cancelled"):
            kept = desk.database.rows(tenant, "SELECT id FROM orders WHERE tenant = ? AND status = ?", status)
            assert [row["id"] for row in kept] == ledger.numbers(tenant, status)


@pytest.mark.parametrize("principal", [caller(), Principal("stdio", "stdio", frozenset({"*"}))], ids=str)
async def test_a_key_without_the_label_sees_the_tenant_main(desk: Desk, principal: Principal) -> None:
    result = await call_tool(find_orders, {}, state=desk, principal=principal)
    assert result.structured_content is not None
    assert [order["id"] for order in result.structured_content["result"]] == [1, 2, 3]


@pytest.mark.parametrize("claims", [{}, {"tenant": ("main", "acme")}], ids=str)
async def test_a_token_that_names_no_single_tenant_sees_nothing(desk: Desk, claims: Any) -> None:
    """Otherwise a token of any customer of the issuer would open the default tenant."""
    result = await call_tool(find_orders, {}, state=desk, principal=caller("oauth", **claims))
    assert result.is_error
    assert "name one tenant" in text(result)
