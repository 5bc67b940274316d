"""The outermost layer: the context of each request, the head of each response, the access log, and a last resort."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.principal import act_for_caller, credential_is_valid, current_principal
from ..calls.record import Recorder
from ..counters import OTHER, count_http_request
from ..events.log import EventLog, Severity
from ..events.logging import output
from ..events.sampling import Sampler
from ..events.untrusted import shown
from ..http.current_request import RequestContext, current_request
from ..limits.client_address import Network, client_address
from .responses import SECURITY_HEADERS, Refusal

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_HTTPS_HEADERS = (*SECURITY_HEADERS, (b"strict-transport-security", b"max-age=31536000; includeSubDomains"))
_NAMES = frozenset(name for name, _ in _HTTPS_HEADERS)
_INTERNAL_ERROR = Refusal(500, "The server failed. Report the request_id to its operator.")

access_log = structlog.get_logger("access")
error_log = structlog.get_logger("error")


class AccessLog:
    """Writes a line for each request, also to the audit trail. Those without a caller or with an error are sampled.

    For a call that was answered, the audit line is enough, except at level DEBUG.
    """

    def __init__(self, recorder: Recorder | None = None, *, enabled: bool = True) -> None:
        self._recorder = recorder or Recorder()
        self._enabled = enabled
        self._sampler: Sampler[tuple[RequestContext, dict[str, Any]]] = Sampler(self._write)
        self.flush = self._sampler.flush

    def add(self, request: RequestContext, line: dict[str, Any]) -> None:
        """Add the line of a request that has ended."""
        is_served = line["principal"] is not None and 0 < line["status"] < 400
        if request.calls or is_served:
            self._write((request, line), 1)  # as many as the rate limit lets pass
        else:
            self._sampler.take(line["principal"] or request.client, (line["status"],), (request, line))

    def _write(self, item: tuple[RequestContext, dict[str, Any]], count: int) -> None:
        request, line = item
        if count > 1:
            line["count"] = count
        self._recorder.request(request, line)
        has_line = request.audited and output.one_line_a_call and 0 < line["status"] < 400
        if self._enabled and not has_line:
            access_log.info("request", **line)


@dataclass
class RequestContextLayer:
    """Sets the context of a request before all other layers, and records how it ended after them.

    It finishes the head of the response: security headers where the application has not set them, the request id, and
    what other layers have left in the context.
    """

    app: ASGIApp
    events: EventLog
    access_log: AccessLog
    trusted_proxies: Sequence[Network] = ()  # networks whose `X-Forwarded-For` is believed
    routes: frozenset[str] = frozenset()  # paths that are served, by which requests are counted
    https: bool = False  # whether clients reach this server by https: only then may browsers be told to insist on it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request = self._request_context(scope)
        current_principal.set(None)
        credential_is_valid.set(None)
        act_for_caller.set(None)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request.request_id)  # for the team's code
        status = 0

        async def send_finished(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._finished(message["headers"], request)
            await send(message)

        try:
            await self.app(scope, receive, send_finished)
        except Exception:
            error_log.exception("request failed")
            if status:
                raise  # the response has begun: only closing the connection can show that it is incomplete
            await _INTERNAL_ERROR(scope, receive, send_finished)
        finally:
            self._record(scope, request, status, time.perf_counter() - started)

    def _request_context(self, scope: Scope) -> RequestContext:
        peer = scope["client"][0] if scope.get("client") else "unknown"
        client = client_address(peer, scope["headers"], self.trusted_proxies)
        request = RequestContext(os.urandom(16).hex(), client, scope["headers"])
        # Set before `shown`, which looks for the credentials of the request; a pipelined one inherits that before it.
        current_request.set(request)
        given = [value for name, value in scope["headers"] if name == b"x-request-id"]
        # An id that holds a credential would put it into every line and into the response.
        if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) and shown(text := given[0].decode()) == text:
            request.request_id = text
        return request

    def _finished(self, headers: Sequence[tuple[bytes, bytes]], request: RequestContext) -> list[tuple[bytes, bytes]]:
        own: Sequence[tuple[bytes, bytes]] = _HTTPS_HEADERS if self.https else SECURITY_HEADERS
        names = [name.lower() for name, _ in headers]
        if not _NAMES.isdisjoint(names):
            own = [header for header in own if header[0] not in names]
            # The SDK's streams have `no-cache, no-transform`.
            headers = [(name, v + b", no-store" if name.lower() == b"cache-control" else v) for name, v in headers]
        return [*headers, *own, *request.response_headers, (b"x-request-id", request.request_id.encode())]

    def _record(self, scope: Scope, request: RequestContext, status: int, seconds: float) -> None:
        principal = current_principal.get()
        identifier = principal.id if principal is not None else None
        is_known = scope["path"] in self.routes
        path = scope["path"] if is_known else shown(scope["path"])
        count_http_request(path if is_known else OTHER, status, seconds)
        line = {
            "method": scope["method"],
            "path": path,  # without the query: clients have put tokens there
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
            "client": request.client,
            "principal": identifier,
            **(principal.name_field if principal is not None else {}),
        }
        if status >= 400 and not request.event_recorded:
            severity: Severity = "high" if status >= 500 else "medium"
            self.events.record(
                "http_error", identifier, severity=severity, status=status, method=scope["method"], path=path
            )
        request.finished = True
        self.access_log.add(request, line)
