"""Outermost layer: gives the request an id and a client address, writes its access line, answers if all else fails."""

import os
import re
import time
from collections.abc import Sequence

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..audit_trail.records import record_request
from ..audit_trail.trail import AuditTrail, current_trail
from ..auth.principal import current_principal
from ..events.log import EventLog
from ..http.current_request import RequestContext, current_request
from ..limits.client_address import Network, client_address
from ..telemetry.metrics import OTHER, count_http_request
from .responses import Refusal

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_LONGEST_PATH = 200

access_log = structlog.get_logger("access")
error_log = structlog.get_logger("error")


class RequestContextLayer:
    """Args:
    app: the next layer.
    events: where failed requests are noted.
    trusted_proxies: networks whose `X-Forwarded-For` is believed.
    log_requests: whether every request leaves an access line.
    routes: paths that are served, by which requests are counted.
    trail: where calls and refusals are recorded, if anywhere.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        events: EventLog,
        trusted_proxies: Sequence[Network] = (),
        log_requests: bool = True,
        routes: frozenset[str] = frozenset(),
        trail: AuditTrail | None = None,
    ) -> None:
        self.app = app
        self._events = events
        self._trusted_proxies = tuple(trusted_proxies)
        self._log_requests = log_requests
        self._routes = routes
        self._trail = trail
        self._internal_error = Refusal(500, "The server failed. Report the request_id to whoever runs it.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request = self._request_context(scope)
        # Set even when nothing is known: a pipelined request inherits the context of the one before it.
        current_request.set(request)
        current_principal.set(None)
        current_trail.set(self._trail)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request.request_id)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request.request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            error_log.exception("request failed")
            if status:
                raise  # the answer has begun: only closing the connection can say that it is not whole
            await self._internal_error(scope, receive, send_with_id)
        finally:
            self._finish(scope, request, status, time.perf_counter() - started)

    def _request_context(self, scope: Scope) -> RequestContext:
        peer = scope["client"][0] if scope.get("client") else "unknown"
        given = [value for name, value in scope["headers"] if name == b"x-request-id"]
        accepted = len(given) == 1 and _REQUEST_ID.fullmatch(given[0])
        return RequestContext(
            request_id=given[0].decode() if accepted else os.urandom(16).hex(),
            client=client_address(peer, scope["headers"], self._trusted_proxies),
        )

    def _finish(self, scope: Scope, request: RequestContext, status: int, seconds: float) -> None:
        principal = current_principal.get()
        identifier = principal.id if principal is not None else request.client
        path = scope["path"][:_LONGEST_PATH]
        count_http_request(path if path in self._routes else OTHER, status, seconds)
        record_request(request, method=scope["method"], path=path, status=status,
                       principal=principal.id if principal is not None else None)  # fmt: skip
        if status >= 400 and not request.event_recorded:
            self._events.record(
                "http_error",
                identifier,
                severity="high" if status >= 500 else "medium",
                status=status,
                method=scope["method"],
                path=path,
            )
        if self._log_requests:
            access_log.info(
                "request",
                method=scope["method"],
                path=path,  # without the query: clients have put tokens there
                status=status,
                duration_ms=round(seconds * 1000, 2),
                client=request.client,
                principal=principal.id if principal is not None else None,
            )
