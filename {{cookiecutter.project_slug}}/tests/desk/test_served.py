"""The order desk as clients see it: over HTTP in both protocol eras, and over stdio."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import INVALID_PARAMS, ImageContent, TextContent, TextResourceContents

from mcp_chassis.testing.process import environment
from mcp_chassis.testing.running import RunningServer, running_server, text

from {{ cookiecutter.package_name }} import desk
from {{ cookiecutter.package_name }}.database import Database
from {{ cookiecutter.package_name }}.orders import Order
from {{ cookiecutter.package_name }}.server import SERVER

pytestmark = pytest.mark.anyio


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has become of the databases that were opened."""
    states: list[str] = []

    class Watched(Database):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            states.append("open")

        def close(self) -> None:
            super().close()
            states[-1] = "closed"

    monkeypatch.setattr(desk, "Database", Watched)
    return states


@pytest.fixture
def server(opened: list[str], tmp_path: Path, stock_url: str) -> Iterator[RunningServer]:
    with running_server(SERVER, database=tmp_path / "orders.sqlite", stock_url=stock_url) as running:
        yield running
    assert opened == ["closed"], "one database, opened once and closed at the end"


@asynccontextmanager
async def on_stdio(directory: Path, stock_url: str) -> AsyncIterator[Client]:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", SERVER.package, "stdio"],
        env=environment(database=str(directory / "orders.sqlite"), stock_url=stock_url),
        cwd=directory,
    )
    async with Client(stdio_client(parameters)) as client:
        yield client


async def use_the_desk(client: Client) -> None:
    """Call what the order desk offers, as the official client does, which checks results against their schemas."""
    lines = [{"item": "TE-100", "quantity": 2, "price": "4.50"}, {"item": "CO-200", "quantity": 1, "price": "11.95"}]
    placed = await client.call_tool("place_order", {"order": {"customer": "Ada", "due": "2026-12-24", "lines": lines}})
    order = Order.model_validate(placed.structured_content)
    assert str(order.total) == "20.95"
    found = await client.call_tool("find_orders", {"status": "open", "customer": "Ada"})
    assert found.structured_content == {"result": [placed.structured_content]}
    (read,) = (await client.read_resource(f"orders://{order.id}")).contents
    assert isinstance(read, TextResourceContents)
    assert Order.model_validate_json(read.text) == order
    shipped = await client.call_tool("ship_order", {"number": order.id, "carrier": "post"})
    assert text(shipped) == f"Order {order.id} goes to Ada by post."
    stock = await client.call_tool("stock_of", {"item": "TE-100"})
    assert stock.structured_content == {"item": "TE-100", "available": 7}
    told: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total))

    chart = await client.call_tool("sales_chart", {"year": 2026}, progress_callback=note)
    assert isinstance(chart.content[0], ImageContent)
    assert told == [(month, 12) for month in range(1, 13)]
    (message,) = (await client.get_prompt("apology", {"customer": "Zoë"})).messages
    assert isinstance(message.content, TextContent)
    assert message.content.text == "Apologise to Zoë for the late order, in two friendly sentences."


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_desk_over_http(server: RunningServer, opened: list[str], mode: str) -> None:
    for _ in range(2):
        async with server.client(mode) as client:
            await use_the_desk(client)
    assert opened == ["open"]


async def test_the_desk_over_stdio(tmp_path: Path, stock_url: str) -> None:
    async with on_stdio(tmp_path, stock_url) as client:
        await use_the_desk(client)
    async with on_stdio(tmp_path, stock_url) as client:  # what was kept is there again, and the first orders once
        result: Any = (await client.call_tool("find_orders", {})).structured_content
        assert [order["id"] for order in result["result"]] == [1, 2, 3, 5]


@pytest.mark.parametrize("arguments", [{}, {"customer": "a" * 201}, {"customer": "$(rm -rf /)"}])
async def test_a_refused_argument_of_a_prompt_is_invalid(server: RunningServer, arguments: dict[str, str]) -> None:
    async with server.client() as client:
        with pytest.raises(MCPError) as error:
            await client.get_prompt("apology", arguments)
        assert error.value.error.code == INVALID_PARAMS
        assert "rm -rf" not in error.value.error.message


@pytest.mark.parametrize("number", ["4", "99", "x"])
async def test_an_order_that_is_not_the_callers_is_as_one_that_is_not_there(server: RunningServer, number: str) -> None:
    async with server.client() as client:
        with pytest.raises(MCPError) as error:
            await client.read_resource(f"orders://{number}")
        assert error.value.error.code == INVALID_PARAMS
        assert "Ada Lovelace" not in error.value.error.message
