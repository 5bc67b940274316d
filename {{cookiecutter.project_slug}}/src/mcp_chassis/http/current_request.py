"""The request being served, for log lines, events and layers."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

CREDENTIALS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"x-api-key"})


@dataclass(slots=True)
class RequestContext:
    """One HTTP request. Created by `RequestContextLayer`, shared by every task that serves the request."""

    request_id: str
    client: str  # the client's address; from `X-Forwarded-For` only if a trusted proxy wrote it
    headers: Sequence[tuple[bytes, bytes]] = ()
    event_recorded: bool = False  # whether a more precise security event than `http_error` was recorded
    calls: list[dict[str, Any]] = field(default_factory=list)  # for the audit trail, with the status of the response
    audited: bool = False  # whether a call of this request left its line
    response_headers: Sequence[tuple[bytes, bytes]] = ()  # what layers add to the head of the response
    finished: bool = False

    def credentials(self) -> bytes:
        """Return what the client sent as credentials: it may have sent the same text elsewhere, too."""
        return b"\n".join(value for name, value in self.headers if name in CREDENTIALS)


current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)


def client_of_request() -> str:
    """Return the client's address; `unknown` outside of a request."""
    request = current_request.get()
    return request.client if request is not None else "unknown"
