"""Gives each request an id and a client address, adds it to the access log, and answers if everything else fails."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.principal import act_for_caller, credential_is_valid, current_principal
from ..counters import OTHER, count_http_request
from ..events.log import EventLog, Severity
from ..events.untrusted import shown
from ..http.current_request import RequestContext, current_request
from ..limits.client_address import Network, client_address
from .access_log import AccessLog
from .responses import Refusal

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")

error_log = structlog.get_logger("error")


_INTERNAL_ERROR = Refusal(500, "The server failed. Report the request_id to whoever runs it.")


@dataclass
class RequestContextLayer:
    """Sets the context of a request before all other layers, and records how it ended after them.

    Args:
        app: the next layer.
        events: where failed requests are recorded.
        access_log: where every request is added.
        trusted_proxies: networks whose `X-Forwarded-For` is believed.
        routes: paths that are served, by which requests are counted.
    """

    app: ASGIApp
    events: EventLog
    access_log: AccessLog
    trusted_proxies: Sequence[Network] = ()
    routes: frozenset[str] = frozenset()

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
                raise  # the response has begun: only closing the connection can show that it is incomplete
            await _INTERNAL_ERROR(scope, receive, send_with_id)
        finally:
            self._finish(scope, request, status, time.perf_counter() - started)

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

    def _finish(self, scope: Scope, request: RequestContext, status: int, seconds: float) -> None:
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
