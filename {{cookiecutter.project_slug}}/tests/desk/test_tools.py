"""The tools of the order desk: as functions, and through the guard."""

import struct
import zlib
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.types import ElicitResult, ImageContent

from mcp_chassis.testing import call_tool
from mcp_chassis.testing.running import text

from {{ cookiecutter.package_name }}.desk import Desk
from {{ cookiecutter.package_name }}.orders import Line, NewOrder, Status
from {{ cookiecutter.package_name }}.tools import orders as tools
from {{ cookiecutter.package_name }}.tools.sales import sales_chart

pytestmark = pytest.mark.anyio

NEW = {"customer": "Ada Lovelace", "due": "2026-12-24", "lines": [{"item": "TE-100", "quantity": 3, "price": "4.50"}]}


@pytest.fixture
def rows(desk: Desk) -> Any:
    """What the tools get for a caller of the tenant `main`."""
    return partial(desk.database.rows, "main")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [1, 2, 3]),
        ({"status": Status.OPEN}, [1, 3]),
        ({"customer": "Café Noir"}, [2, 3]),
        ({"due_by": date(2026, 2, 28)}, [1]),
        ({"status": Status.OPEN, "customer": "Café Noir", "due_by": date(2026, 3, 31)}, [3]),
        ({"customer": "' OR 1=1 --"}, []),
    ],
)
async def test_orders_are_found_by_what_is_given(rows: Any, asked: dict[str, Any], found: list[int]) -> None:
    assert [order.id for order in tools.find_orders(rows, **asked)] == found


async def test_an_order_is_kept_with_its_total_to_the_cent(rows: Any) -> None:
    lines = [Line(item="TE-100", quantity=number, price=Decimal("0.10")) for number in (3, 2)]
    placed = tools.place_order(NewOrder(customer="Zoë O'Brien", lines=lines), rows)
    assert placed.total == Decimal("0.50")
    assert placed.status is Status.OPEN
    assert tools.find_orders(rows, customer="Zoë O'Brien")[-1] == placed


async def test_a_nested_order_comes_through_the_guard(desk: Desk) -> None:
    result = await call_tool(tools.place_order, {"order": NEW}, state=desk)
    assert result.structured_content is not None
    assert result.structured_content.items() >= {"due": "2026-12-24", "total": "13.50", "status": "open"}.items()


@pytest.mark.parametrize(
    "wrong",
    [
        {"lines": []},
        {"lines": [{"item": "tea", "quantity": 1, "price": "1"}]},
        {"lines": [{"item": "TE-100", "quantity": 0, "price": "1"}]},
        {"lines": [{"item": "TE-100", "quantity": 1, "price": "0.001"}]},
        {"customer": "$(rm -rf /)"},
        {"due": "tomorrow"},
        {"tenant": "acme"},
    ],
    ids=str,
)
async def test_what_the_model_forbids_is_not_kept(desk: Desk, rows: Any, wrong: dict[str, Any]) -> None:
    result = await call_tool(tools.place_order, {"order": NEW | wrong}, state=desk)
    assert result.is_error
    assert text(result).startswith("Invalid arguments: order")
    assert len(tools.find_orders(rows)) == 3


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (ElicitResult(action="accept", content={"carrier": "courier"}), Status.SHIPPED),
        (ElicitResult(action="decline"), Status.OPEN),
        (ElicitResult(action="cancel"), Status.OPEN),
    ],
)
async def test_the_user_is_asked_for_the_carrier(desk: Desk, rows: Any, answer: ElicitResult, status: Status) -> None:
    asked = []

    async def ask(_: Any, question: Any) -> ElicitResult:
        asked.append(question.message)
        return answer

    result = await call_tool(tools.ship_order, {"number": 1}, state=desk, elicitation_callback=ask)
    assert asked == ["Who ships order 1?"]
    assert tools.find_orders(rows)[0].status is status
    assert (text(result) == "Order 1 goes to Zoë O'Brien by courier.") is (status is Status.SHIPPED)


async def test_a_call_with_a_carrier_asks_nothing(desk: Desk) -> None:
    result = await call_tool(tools.ship_order, {"number": 3, "carrier": "post"}, state=desk)
    assert text(result) == "Order 3 goes to Café Noir by post."
    assert "no such order" in text(await call_tool(tools.ship_order, {"number": 3, "carrier": "post"}, state=desk))


@pytest.mark.parametrize(("confirm", "status"), [(True, Status.CANCELLED), (False, Status.OPEN), (None, Status.OPEN)])
async def test_an_order_is_cancelled_only_if_the_user_says_so(
    desk: Desk, rows: Any, confirm: bool | None, status: Status
) -> None:
    async def ask(_: Any, question: Any) -> ElicitResult:
        assert '"number": 1' in question.message
        return ElicitResult(action="accept", content={"confirm": confirm})

    can_ask: dict[str, Any] = {} if confirm is None else {"elicitation_callback": ask}
    result = await call_tool(tools.cancel_order, {"number": 1}, state=desk, **can_ask)
    assert tools.find_orders(rows)[0].status is status
    assert result.is_error is (status is Status.OPEN)


async def test_what_is_shipped_is_not_cancelled(rows: Any) -> None:
    with pytest.raises(ResourceNotFoundError, match="not open"):
        tools.cancel_order(2, rows)


async def test_the_stock_comes_from_the_internal_service(desk: Desk) -> None:
    result = await call_tool(tools.stock_of, {"item": "CO-200"}, state=desk)
    assert result.structured_content == {"item": "CO-200", "available": 7}
    assert (await call_tool(tools.stock_of, {"item": "TE-404"}, state=desk)).is_error
    assert "Invalid arguments" in text(await call_tool(tools.stock_of, {"item": "../admin"}, state=desk))


async def test_the_chart_shows_each_month(desk: Desk) -> None:
    result = await call_tool(sales_chart, {"year": 2026}, state=desk)
    (image,) = result.content
    assert isinstance(image, ImageContent)
    width, rows = pixels(image.data)
    dark = [sum(row[month * width // 12] == 0 for row in rows) for month in range(12)]
    assert dark == [9, 120, 52, *[0] * 9]  # 9.00, 119.50, 52.30


def pixels(data: str) -> tuple[int, list[bytes]]:
    """Return the width and the rows of a grey-scale image."""
    from base64 import b64decode

    file = b64decode(data)
    assert file.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">2I", file[16:24])
    start = file.index(b"IDAT")
    (length,) = struct.unpack(">I", file[start - 4 : start])
    raw = zlib.decompress(file[start + 4 : start + 4 + length])
    rows = [raw[y * (width + 1) + 1 : (y + 1) * (width + 1)] for y in range(height)]
    return width, rows
