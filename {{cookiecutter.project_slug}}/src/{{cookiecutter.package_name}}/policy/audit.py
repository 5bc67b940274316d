"""One line for every call, whichever way it ends: who, what, outcome, how long. Never a value."""

import time
from types import TracebackType
from typing import Any

import pydantic_core
import structlog
from mcp import MCPError

from ..auth.principal import current_principal

audit_log = structlog.get_logger("audit")


class audited:
    """Write one audit line when the block ends. The block sets `outcome` if it is not `ok`.

    A class, because `contextmanager` would cost three times as much for every call.
    """

    def __init__(self, action: str, **facts: object) -> None:
        self._action = action
        self._audit: dict[str, Any] = {"principal": caller(), **facts, "outcome": "ok"}

    def __enter__(self) -> dict[str, Any]:
        self._started = time.perf_counter()
        return self._audit

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None and self._audit["outcome"] == "ok":
            self._audit["outcome"] = "refused" if issubclass(kind, MCPError) else "cancelled"
        audit_log.info(self._action, **self._audit, duration_ms=round((time.perf_counter() - self._started) * 1000, 2))


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
