"""What every log line, event and layer may know about the request being served, without being handed it."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class RequestContext:
    """One HTTP request. Made by the outermost layer, shared by every task that serves the request."""

    request_id: str
    client: str
    """The client's address, judged by the trusted proxies; never what an untrusted peer claims."""
    event_recorded: bool = False
    """Whether a more precise security event than `http_error` was recorded for this request."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Records for the audit trail, which are written with the status of the answer."""
    finished: bool = False


current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)
