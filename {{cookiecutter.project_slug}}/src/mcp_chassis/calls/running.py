"""The tool call that runs, for `handles` and `pages`: what they give out is bound to it."""

import hashlib
import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from ..auth.principal import get_principal
from ..mcp import sdk


class HandleStore(Protocol):
    """Keeps values of callers. A value that has expired, or that another caller has put, is not there.

    Both methods raise `ToolError` if they cannot do it now.
    """

    async def put(self, owner: str, name: str, text: str, ttl: float) -> None:
        """Keep `text` for `ttl` seconds."""

    async def get(self, owner: str, name: str) -> str | None:
        """Return what is kept under that name for that owner, or None."""


@dataclass(slots=True)
class Keeping:
    """What one server keeps and seals with.

    Args:
        codec: seals what clients carry from one call to the next.
        store: where values are kept; this process, if there is none.
    """

    codec: sdk.RequestStateCodec
    store: HandleStore | None = None


@dataclass(frozen=True, slots=True)
class RunningCall:
    """One call of a tool."""

    tool: str
    arguments: Mapping[str, Any]
    """As the client sent them."""
    keeping: Keeping


_running: ContextVar[RunningCall] = ContextVar("running_call")
begin = _running.set


def running_call() -> RunningCall:
    """Return the call of the tool that runs.

    Raises:
        LookupError: outside of a call.
    """
    try:
        return _running.get()
    except LookupError:
        raise LookupError("no tool is running: handles and cursors are bound to a call of a tool") from None


def owner(*what: object) -> str:
    """Return a digest of the caller and `what`: the same for the same id and claims, whatever the credential."""
    principal = get_principal()
    facts = (principal.kind, principal.id, sorted(principal.claims.items()), what)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
