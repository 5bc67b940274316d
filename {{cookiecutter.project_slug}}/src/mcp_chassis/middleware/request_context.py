"""Outermost layer: gives the request an id and a client address, writes its access line, answers if all else fails."""

import os
import re
import time
from collections.abc import Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.principal import current_principal
from ..calls.recorder import Recorder
from ..counters import OTHER, count_http_request
from ..events.log import EventLog
from ..events.sampling import Sampler
from ..events.untrusted import shown
from ..http.current_request import RequestContext, current_request
from ..limits.client_address import Network, client_address
from .responses import Refusal

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")

access_log = structlog.get_logger("access")
error_log = structlog.get_logger("error")


class RequestContextLayer:
    """Args:
    app: the next layer.
    events: where failed requests are noted.
    trusted_proxies: networks whose `X-Forwarded-For` is believed.
    log_requests: whether every request leaves an access line.
    routes: paths that are served, by which requests are counted.
    recorder: records calls and refusals.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        events: EventLog,
        trusted_proxies: Sequence[Network] = (),
        log_requests: bool = True,
        routes: frozenset[str] = frozenset(),
        recorder: Recorder | None = None,
    ) -> None:
        self.app = app
        self._events = events
        self._trusted_proxies = tuple(trusted_proxies)
        self._log_requests = log_requests
        self._routes = routes
        self._recorder = recorder or Recorder()
        self._sampler: Sampler[tuple[RequestContext, dict[str, Any]]] = Sampler(self._write)
        self._internal_error = Refusal(500, "The server failed. Report the request_id to whoever runs it.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, self._counted_before_the_end(receive), send)
            return
        started = time.perf_counter()
        request = self._request_context(scope)
        current_principal.set(None)
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
        client = client_address(peer, scope["headers"], self._trusted_proxies)
        request = RequestContext(os.urandom(16).hex(), client, scope["headers"])
        # Set even when nothing is known: a pipelined request inherits the context of the one before it.
        current_request.set(request)
        given = [value for name, value in scope["headers"] if name == b"x-request-id"]
        # An id that holds a credential would put it into every line and into the answer.
        if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) and shown(text := given[0].decode()) == text:
            request.request_id = text
        return request

    def _finish(self, scope: Scope, request: RequestContext, status: int, seconds: float) -> None:
        principal = current_principal.get()
        identifier = principal.id if principal is not None else request.client
        is_known = scope["path"] in self._routes
        path = scope["path"] if is_known else shown(scope["path"])
        count_http_request(path if is_known else OTHER, status, seconds)
        line = {
            "method": scope["method"],
            "path": path,  # without the query: clients have put tokens there
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
            "client": request.client,
            "principal": principal.id if principal is not None else None,
        }
        if status >= 400 and not request.event_recorded:
            self._events.record(
                "http_error",
                identifier,
                severity="high" if status >= 500 else "medium",
                status=status,
                method=scope["method"],
                path=path,
            )
        request.finished = True
        if request.calls or (principal is not None and 0 < status < 400):
            self._write((request, line), 1)  # as many as the rate limit lets pass
        else:
            self._sampler.take(identifier, (status,), (request, line))

    def _write(self, item: tuple[RequestContext, dict[str, Any]], count: int) -> None:
        request, line = item
        if count > 1:
            line["count"] = count
        self._recorder.request(request, line)
        if self._log_requests:
            access_log.info("request", **line)

    def _counted_before_the_end(self, receive: Receive) -> Receive:
        """Write what has been counted before the application stops, and with it the audit trail."""

        async def received() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._sampler.flush()
            return message

        return received
