"""What every log line, event and layer may know about the request being served, without being handed it."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

_CREDENTIALS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"x-api-key"})


@dataclass(slots=True)
class RequestContext:
    """One HTTP request. Made by the outermost layer, shared by every task that serves the request."""

    request_id: str
    client: str
    """The client's address, judged by the trusted proxies; never what an untrusted peer claims."""
    headers: Sequence[tuple[bytes, bytes]] = ()
    event_recorded: bool = False
    """Whether a more precise security event than `http_error` was recorded for this request."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Records for the audit trail, which are written with the status of the answer."""
    finished: bool = False

    def credentials(self) -> str:
        """Return what the client has presented as a credential: it may have put the same text elsewhere, too."""
        return "\n".join(value.decode("latin-1") for name, value in self.headers if name in _CREDENTIALS)


current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)
