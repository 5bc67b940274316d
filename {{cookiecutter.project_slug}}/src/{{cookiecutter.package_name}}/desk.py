"""What all calls share: opened before the first one, closed after the last."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from mcp.server.mcpserver import Resolve
from mcp.server.mcpserver.exceptions import ResourceError

from mcp_chassis import Shared, get_principal
from mcp_chassis.sinks import Upstream

from .database import Database
from .settings import Settings


@dataclass(frozen=True)
class Desk:
    """The database, and the internal service that knows what is in stock."""

    database: Database
    stock: Upstream


@asynccontextmanager
async def open_desk(settings: Settings) -> AsyncIterator[Desk]:
    """Open both, and close both in the end."""
    async with Upstream(settings.stock_url) as stock:
        with closing(Database(settings.database)) as database:
            yield Desk(database, stock)


def rows_of_caller(desk: Shared[Desk]) -> Callable[..., list[dict[str, Any]]]:
    """Bind `Database.rows` to the caller's tenant: `main` for a key without the label, and for stdio."""
    caller = get_principal()
    tenant = caller.claims.get("tenant", None if caller.kind == "oauth" else "main")
    if not isinstance(tenant, str):
        raise ResourceError("The token has to name one tenant.")  # as an error of tools, too
    return partial(desk.database.rows, tenant)


Rows = Annotated[Callable[..., list[dict[str, Any]]], Resolve(rows_of_caller)]
"""A parameter of this type is filled at each call, and is not in the tool's schema."""
