"""One line for every call, whichever way it ends: caller, what was called, outcome, duration. Never a value."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import structlog
from mcp import MCPError

from ..auth.principal import current_principal
from ..counters import OTHER, count_tool_call
from ..events.untrusted import named
from ..http.current_request import RequestContext, current_request

ACTIONS = {"tool": "tool_call", "resource": "resource_read", "prompt": "prompt_get"}
_MAX_ARGUMENTS = 32

audit_log = structlog.get_logger("audit")


class Recorder:
    """Records nothing."""

    def describe(self, arguments: Mapping[str, bytes | None]) -> list[dict[str, Any]]:
        """Return what is recorded of arguments, given as JSON by their names."""
        return []

    def call(
        self,
        action: str,
        facts: Mapping[str, Any],
        arguments: Sequence[dict[str, Any]],
        *,
        seconds: float,
        error: int | None,
    ) -> None:
        """Record one call: its line, its described arguments, and its JSON-RPC error code, 0 if the SDK chooses it."""

    def request(self, request: RequestContext, line: Mapping[str, Any]) -> None:
        """Record one HTTP request by its access line: the calls in it, or its refusal.

        A `count` in the line says for how many refused requests of this caller it stands.
        """


class audited:
    """Write one audit line when the block ends. The block sets `outcome` if it is not `ok`.

    A class, because `contextmanager` would cost three times as much for every call. Of arguments, given as JSON, the
    line has names and sizes, the audit trail keyed hashes of the first 32. `facts` are in declared names.
    """

    def __init__(
        self, recorder: Recorder, action: str, arguments: Mapping[str, bytes | None] | None = None, /, **facts: str
    ) -> None:
        self._recorder, self._action = recorder, action
        principal = current_principal.get()
        name = principal.name_field if principal is not None else {}
        address = {"client": request.client} if (request := current_request.get()) is not None else {}
        self._audit: dict[str, Any] = {**address, "principal": caller(), **name, **facts, "outcome": "ok"}
        known = {named(name): value for name, value in list((arguments or {}).items())[:_MAX_ARGUMENTS]}
        if arguments is not None:
            sizes = {name: None if value is None else len(value) for name, value in known.items()}
            self._audit["argument_bytes"] = sizes
        self._arguments = recorder.describe(known)

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
        if (request := current_request.get()) is not None:
            request.audited = True
        code = error.error.code if isinstance(error, MCPError) else None if error is None else 0
        self._recorder.call(self._action, audit, self._arguments, seconds=seconds, error=code)


def caller() -> str:
    """Return the id of the caller, for logs and events."""
    principal = current_principal.get()
    return principal.id if principal is not None else "unknown"
