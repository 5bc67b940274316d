"""Orders of one tenant are never seen or changed by another, whatever is called."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest

from mcp_chassis import Principal, cli
from mcp_chassis.testing import call_tool
from mcp_chassis.testing.running import RunningServer, running_server, text

from {{ cookiecutter.package_name }}.desk import Desk
from {{ cookiecutter.package_name }}.server import SERVER
from {{ cookiecutter.package_name }}.tools.orders import cancel_order, find_orders
from {{ cookiecutter.package_name }}.tools.sales import sales_chart

TENANTS = ("north", "south")
CALLS = 1000


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """A key for each tenant, made as an operator makes them."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("KEYS_FILE", "keys.json")
        for tenant in TENANTS:
            command = f"keys create --name {tenant} --scopes orders:read,orders:write --label tenant={tenant}"
            assert cli.run(SERVER, command.split()) == 0
            made[tenant] = capsys.readouterr().out.split()[-1]
    return made


@pytest.fixture
def server(tmp_path: Path, keys: dict[str, str]) -> Iterator[RunningServer]:
    own = {"database": tmp_path / "orders.sqlite", "keys_file": tmp_path / "keys.json", "enable_request_logging": False}
    with running_server(SERVER, **own) as running:
        yield running


class Ledger:
    """What has to be in the database while two tenants call at random."""

    def __init__(self) -> None:
        self.choose = Random(15)  # noqa: S311 - the same calls every time
        self.orders: dict[int, tuple[str, str]] = {}  # tenant and status

    def call(self, tenant: str) -> tuple[str, dict[str, Any]]:
        """Return a call, as likely of an order of the other tenant as of one of its own."""
        line = {"item": "TE-100", "quantity": self.choose.randint(1, 9), "price": "1.00"}
        number = self.choose.choice([*self.orders, 1, 999])
        calls: list[tuple[str, dict[str, Any]]] = [
            ("place_order", {"order": {"customer": tenant, "lines": [line]}}),
            ("find_orders", {"status": "open", "customer": self.choose.choice(TENANTS)}),
            ("ship_order", {"number": number, "carrier": "post"}),
            ("orders://", {"number": number}),
        ]
        return self.choose.choice(calls)

    def numbers(self, tenant: str, status: str) -> list[int]:
        """Return the orders of a tenant."""
        return [number for number, order in self.orders.items() if order == (tenant, status)]


def send(client: httpx2.Client, key: str, name: str, given: dict[str, Any]) -> Any:
    """Call a tool or read a resource. The answer is its data, or None for an error."""
    message = {"method": "tools/call", "params": {"name": name, "arguments": given}}
    if name == "orders://":
        message = {"method": "resources/read", "params": {"uri": f"orders://{given['number']}"}}
    headers = {"Authorization": f"Bearer {key}"}
    answer = client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, **message}, headers=headers).json()
    result = answer.get("result", {"isError": True})
    if "contents" in result:
        return json.loads(result["contents"][0]["text"])
    return None if result["isError"] else result["structuredContent"]


def test_two_tenants_never_see_or_change_each_others_orders(server: RunningServer, keys: dict[str, str]) -> None:
    ledger = Ledger()
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        for _ in range(CALLS):
            tenant = ledger.choose.choice(TENANTS)
            name, given = ledger.call(tenant)
            data = send(client, keys[tenant], name, given)
            owner, status = ledger.orders.get(given.get("number", 0), ("", ""))
            if name == "place_order":
                ledger.orders[data["id"]] = (tenant, "open")
            elif name == "find_orders":
                expected = ledger.numbers(tenant, "open")[:100] if given["customer"] == tenant else []
                assert [order["id"] for order in data["result"]] == expected, given
            elif name == "ship_order":
                assert (data is not None) is ((owner, status) == (tenant, "open")), given
                if data is not None:
                    ledger.orders[given["number"]] = (tenant, "shipped")
            else:
                assert (data is not None) is (owner == tenant), given
                assert data is None or (data["customer"], data["status"]) == (owner, status)
        for tenant, key in keys.items():  # nothing has changed unseen
            for status in ("open", "shipped"):
                found = send(client, key, "find_orders", {"status": status})["result"]
                assert [order["id"] for order in found] == ledger.numbers(tenant, status)[:100]


def caller(kind: Any = "key", **claims: Any) -> Principal:
    """Return a caller as a verifier makes it."""
    return Principal(f"{kind}:test", kind, frozenset({"*"}), claims)


@pytest.mark.anyio
async def test_no_tenant_cancels_an_order_of_another(desk: Desk) -> None:
    async def agree(*_: object) -> Any:
        from mcp.types import ElicitResult

        return ElicitResult(action="accept", content={"confirm": True})

    for tenant, done in (("north", False), ("main", False), ("acme", True)):
        result = await call_tool(
            cancel_order, {"number": 4}, state=desk, principal=caller(tenant=tenant), elicitation_callback=agree
        )
        assert result.is_error is not done


@pytest.mark.anyio
async def test_no_tenant_sees_the_sales_of_another(desk: Desk) -> None:
    async def chart(year: int, tenant: str) -> Any:
        return (await call_tool(sales_chart, {"year": year}, state=desk, principal=caller(tenant=tenant))).content

    assert await chart(2026, "north") == await chart(2000, "main"), "an empty one"
    assert await chart(2026, "main") != await chart(2026, "acme")


@pytest.mark.anyio
@pytest.mark.parametrize("principal", [caller(), caller("stdio"), caller("anonymous")], ids=str)
async def test_a_caller_without_a_label_sees_the_tenant_main(desk: Desk, principal: Principal) -> None:
    result = await call_tool(find_orders, {}, state=desk, principal=principal)
    assert result.structured_content is not None
    assert [order["id"] for order in result.structured_content["result"]] == [1, 2, 3]


@pytest.mark.anyio
@pytest.mark.parametrize("claims", [{}, {"tenant": ("main", "acme")}], ids=str)
async def test_a_token_that_names_no_single_tenant_sees_nothing(desk: Desk, claims: Any) -> None:
    """Otherwise a token of any customer of the issuer would open the default tenant."""
    result = await call_tool(find_orders, {}, state=desk, principal=caller("oauth", **claims))
    assert result.is_error
    assert "name one tenant" in text(result)
