"""A tool that takes its time, reports its progress, and returns an image."""

import asyncio
import struct
import zlib
from decimal import Decimal
from typing import Annotated

from mcp.server.mcpserver import Context, Image
from pydantic import Field

from mcp_chassis import tool

from ..desk import Rows


@tool(title="Sales of a year", scopes=("orders:read",), read_only=True, open_world=False, timeout=120)
async def sales_chart(rows: Rows, year: Annotated[int, Field(ge=2000, le=2100)], context: Context) -> Image:
    """Draw the sales of a year, a column for each month."""
    query = "SELECT total FROM orders WHERE tenant = ? AND status <> 'cancelled' AND CAST(placed AS TEXT) LIKE ?"
    sales = []
    for month in range(1, 13):
        found = await asyncio.to_thread(rows, query, f"{year}-{month:02}-%")
        sales.append(sum(Decimal(row["total"]) for row in found))
        await context.report_progress(month, 12)
    return Image(data=_png([float(one / (max(sales) or 1)) for one in sales]), format="png")


def _png(columns: list[float], *, width: int = 20, height: int = 120) -> bytes:
    """Return columns of these heights as a grey-scale image (PNG, RFC 2083)."""
    tops = [height * column for column in columns for _ in range(width)]
    pixels = b"".join(b"\0" + bytes(255 * (top < y) for top in tops) for y in range(height, 0, -1))
    image = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">2I5B", len(tops), height, 8, 0, 0, 0, 0)
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")):
        image += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return image
