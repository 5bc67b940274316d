"""Your resources: what a client may read. Each says its URI and is listed in `RESOURCES`."""

from mcp_chassis import Shared, resource

from .desk import Desk, rows_of_caller
from .orders import Number, the_order


@resource("orders://{number}", title="An order", mime_type="application/json", scopes=("orders:read",))
def order(number: Number, desk: Shared[Desk]) -> str:
    """Return one order."""
    found = rows_of_caller(desk)("SELECT * FROM orders WHERE tenant = ? AND id = ?", number)
    return the_order(found).model_dump_json()


RESOURCES = (order,)
