"""Your own settings, read from the environment and `.env` together with those of the chassis."""

from pathlib import Path

from pydantic import Field

import mcp_chassis


class Settings(mcp_chassis.Settings):
    """Add fields here: `max_orders: int = 10` reads `MAX_ORDERS`."""

    database: Path = Field(Path("data/orders.sqlite"), description="The SQLite file of the order desk.")
    stock_url: str = Field("http://localhost:8081", description="The internal service that knows what is in stock.")
