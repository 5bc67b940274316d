"""One line for every call, whichever way it ends: who, what, outcome, how long. Never a value."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pydantic_core
import structlog
from mcp import MCPError

from ..auth.principal import current_principal

audit_log = structlog.get_logger("audit")


@asynccontextmanager
async def audited(action: str, **facts: object) -> AsyncIterator[dict[str, Any]]:
    """Write one audit line when the block ends. The block sets `outcome` if it is not `ok`."""
    audit: dict[str, Any] = {"principal": caller(), **facts, "outcome": "ok"}
    started = time.perf_counter()
    try:
        yield audit
    except MCPError:
        if audit["outcome"] == "ok":
            audit["outcome"] = "refused"
        raise
    except BaseException:
        if audit["outcome"] == "ok":
            audit["outcome"] = "cancelled"
        raise
    finally:
        audit_log.info(action, **audit, duration_ms=round((time.perf_counter() - started) * 1000, 2))


def caller() -> str:
    """Return the id of whoever is calling, for logs and events."""
    principal = current_principal.get()
    return principal.id if principal is not None else "unknown"


def sizes(arguments: dict[str, Any]) -> dict[str, int | None]:
    """What an audit line says of arguments: their names, bounded, and how many bytes of JSON each has."""
    return {str(name)[:64]: _size(value) for name, value in list(arguments.items())[:32]}


def _size(value: object) -> int | None:
    try:
        return len(pydantic_core.to_json(value))
    except ValueError:  # half of a surrogate pair: the check of the arguments will say so
        return None
