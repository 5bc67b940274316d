"""The tool call that runs, for `handles` and `pages`: what they give out is bound to it."""

import hashlib
import json
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ..auth.principal import get_principal
from ..mcp import sdk

MAX_PER_CALLER = 32  # of more handles, those that end first are dropped
MAX_HANDLES = 10_000


class HandleStore:
    """Keeps values of callers in the memory of this process, bounded in number. Raises `ToolError` if it cannot."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, tuple[float, str]]] = {}

    async def put(self, owner: str, name: str, text: str, ttl: float) -> None:
        """Keep `text` for `ttl` seconds. Only the caller's own values make room for it."""
        now, own = time.monotonic(), self._kept.setdefault(owner, {})
        if len(own) == MAX_PER_CALLER:
            del own[min(own, key=own.__getitem__)]
        elif self._number() >= MAX_HANDLES:
            living = {
                caller: {one: kept for one, kept in of.items() if kept[0] > now} for caller, of in self._kept.items()
            }
            self._kept = {caller: of for caller, of in living.items() if of}
            if self._number() >= MAX_HANDLES:
                raise sdk.ToolError("The server cannot keep anything more right now. Try again later.")
        self._kept.setdefault(owner, {})[name] = now + ttl, text

    async def get(self, owner: str, name: str) -> str | None:
        """Return what is kept; None if there is nothing, or it has expired."""
        until, text = self._kept.get(owner, {}).get(name, (0.0, None))
        return text if time.monotonic() < until else None

    def _number(self) -> int:
        return sum(map(len, self._kept.values()))


@dataclass(slots=True)
class Keeping:
    """Seals what clients carry from one call to the next, and keeps values, for one server."""

    codec: sdk.RequestStateCodec
    store: HandleStore


@dataclass(frozen=True, slots=True)
class RunningCall:
    """One call of a tool."""

    tool: str
    arguments: Mapping[str, Any]  # as the client sent them
    keeping: Keeping


_running: ContextVar[RunningCall] = ContextVar("running_call")
begin = _running.set


def running_call() -> RunningCall:
    """Return the call of the tool that runs; outside of a call it raises `LookupError`."""
    try:
        return _running.get()
    except LookupError:
        raise LookupError("no tool is running: handles and cursors are bound to a call of a tool") from None


def owner(*what: object) -> str:
    """Return a digest of the caller and `what`: the same for the same id and claims, whatever the credential."""
    principal = get_principal()
    facts = (principal.kind, principal.id, sorted(principal.claims.items()), what)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
