"""Your resources: what a client may read. Each says its URI and is listed in `RESOURCES`."""

from mcp_chassis import resource

from .desk import Rows
from .orders import the_order


@resource("orders://{number}", title="An order", mime_type="application/json", scopes=("orders:read",))
def order(number: int, rows: Rows) -> str:
    """Return one order."""
    return the_order(rows("SELECT * FROM orders WHERE tenant = ? AND id = ?", number)).model_dump_json()


RESOURCES = (order,)
