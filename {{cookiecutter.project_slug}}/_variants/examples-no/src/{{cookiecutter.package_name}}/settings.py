"""Your own settings, read from the environment and `.env` together with those of the chassis."""

import mcp_chassis


class Settings(mcp_chassis.Settings):
    """Add fields here: `max_orders: int = 10` reads `MAX_ORDERS`."""
