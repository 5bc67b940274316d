"""One line for every call, whichever way it ends: who, what, outcome, how long. Never a value."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import pydantic_core
import structlog
from mcp import MCPError

from ..auth.principal import current_principal
from ..counters import OTHER, count_tool_call
from ..events.untrusted import named
from .recorder import Recorder

audit_log = structlog.get_logger("audit")


class audited:
    """Write one audit line when the block ends. The block sets `outcome` if it is not `ok`.

    A class, because `contextmanager` would cost three times as much for every call.

    Args:
        recorder: also told of the call.
        action: what is done.
        arguments: of which the line has names and sizes, and the audit trail keyed hashes.
        facts: what else the line says, in declared names.
    """

    def __init__(
        self, recorder: Recorder, action: str, arguments: Mapping[str, Any] | None = None, /, **facts: str
    ) -> None:
        self._recorder, self._action = recorder, action
        values = _as_json(arguments or {})  # before anybody can change them
        self._audit: dict[str, Any] = {"principal": caller(), **facts, "outcome": "ok"}
        if arguments is not None:
            self._audit["arguments"] = {name: None if value is None else len(value) for name, value in values.items()}
        self._arguments = recorder.describe(values)

    def __enter__(self) -> dict[str, Any]:
        self._started = time.perf_counter()
        return self._audit

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        seconds, audit = time.perf_counter() - self._started, self._audit
        if kind is not None and audit["outcome"] == "ok":
            audit["outcome"] = "refused" if issubclass(kind, MCPError) else "cancelled"
        audit_log.info(self._action, **audit, duration_ms=round(seconds * 1000, 2))
        if self._action == "tool_call":
            count_tool_call(audit["tool"] if audit["outcome"] != "unknown" else OTHER, audit["outcome"], seconds)
        code = error.error.code if isinstance(error, MCPError) else None if error is None else 0
        self._recorder.call(self._action, audit, self._arguments, seconds=seconds, error=code)


def caller() -> str:
    """Return the id of whoever is calling, for logs and events."""
    principal = current_principal.get()
    return principal.id if principal is not None else "unknown"


def _as_json(arguments: Mapping[str, Any]) -> dict[str, bytes | None]:
    return {named(name): _json(value) for name, value in list(arguments.items())[:32]}


def _json(value: object) -> bytes | None:
    try:
        return pydantic_core.to_json(value)
    except ValueError:  # half of a surrogate pair: the check of the arguments will say so
        return None
