"""HTTP/1.1 for the open internet: by itself uvicorn keeps clients that send nothing, send slowly or do not read."""

import asyncio
import weakref
from contextvars import copy_context
from typing import Any, ClassVar, cast

from ..counters import count_connections
from ..events.log import EventLog, Kind
from ..middleware.responses import SECURITY_HEADERS, Refusal
from .connections import Connections
from .framing import BadRequest, RequestReader
from .uvicorn_parts import HttpToolsProtocol

_REFUSED_TIMEOUT_SECONDS = 1.0  # in which a connection beyond the limits may ask, to get its error response
_MAX_HELD_BYTES = 65_536  # to join more costs more than a second system call
_MIN_TAKEN_BYTES = 65_536  # that a client has to take within the send time-out, if a response is larger

_CLOSING = (*SECURITY_HEADERS, (b"connection", b"close"))
_FULL = {
    "full": Refusal(503, "All connections are in use. Try again in a few seconds.", headers=_CLOSING),
    "full for this address": Refusal(429, "Your address has too many open connections. Close some.", headers=_CLOSING),
}
_BAD_REQUEST = (*_CLOSING, (b"content-type", b"text/plain; charset=utf-8"))


class _Transport:
    """What uvicorn writes to and closes. Head and body are sent together; closing is left to the protocol.

    A system call that wakes a client up is a twentieth of what an ordinary call costs.
    """

    def __init__(self, transport: asyncio.Transport, protocol: "DeadlineProtocol") -> None:
        self._transport = transport
        # Weak: a cycle would keep the last message of a connection until the next garbage collection.
        self._protocol = weakref.ref(protocol)
        self._context = protocol.context
        self._held = b""

    def write(self, data: bytes) -> None:
        """Hold data until the next write or the next turn of the event loop, and send both at once."""
        if not self._held and len(data) <= _MAX_HELD_BYTES:
            self._held = data
            asyncio.get_running_loop().call_soon(self._flush)
            return
        if len(data) <= _MAX_HELD_BYTES:
            data, self._held = self._held + data, b""
        self._flush()
        self._transport.write(data)

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def resume_reading(self) -> None:
        """Read on. asyncio would keep the context of the request that resumes, for all further ones."""
        self._context.copy().run(self._transport.resume_reading)

    def is_closing(self) -> bool:
        protocol = self._protocol()
        return protocol is None or protocol.is_closing()

    def close(self) -> None:
        self._flush()
        if (protocol := self._protocol()) is not None:
            protocol.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose request has not arrived in time, headers and body, or whose response is not taken.

    The first deadline runs only while the server waits for the client: a long tool call is not cut. Between requests,
    uvicorn's keep-alive time-out takes its place. The second runs only while a response is larger than what the
    operating system takes at once.
    """

    receive_timeout: float = 10
    """Seconds from the connection, or from the first byte of a further request, to the last byte of the body."""
    send_timeout: ClassVar[float] = 10  # seconds in which a client takes its response, or 64 KB more of it
    max_unread_bytes: ClassVar[int] = 1_048_576
    """Bytes of a body that are still taken after its request has been refused. Closing at once would send a reset,
    which may overtake the response (RFC 9112, section 9.6). A client that sends more is not read any further."""
    limits: ClassVar[Connections]
    events: ClassVar[EventLog]

    _deadline: asyncio.TimerHandle | None = None
    _send_deadline: asyncio.TimerHandle | None = None
    _unread_bytes = 0
    _lingers = False
    _is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection and start the deadline."""
        self._reader = RequestReader()
        self._connection = transport
        self.context = copy_context()  # without what a request sets. Copied for each use: one runs only once at a time
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        count_connections(1)
        transport.set_write_buffer_limits(high=0)  # reports every byte that is not taken at once
        self._place = self.limits.take(self.client[0] if self.client else "")
        if self._place.state != "open":
            self._record("rate_limit_exceeded", "too many connections")
            if self._place.state == "hang up":
                transport.abort()
                return
            self.app = _FULL[self._place.state]
            self.receive_timeout = min(_REFUSED_TIMEOUT_SECONDS, self.receive_timeout)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stop the deadline once the request is whole; start it with the first byte of another one."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        is_refused = not self._reader.ended and self.cycle is not None and self.cycle.response_complete
        self._unread_bytes = self._unread_bytes + len(data) if self._lingers or is_refused else 0
        if self._unread_bytes > self.max_unread_bytes:
            self._start()  # without reading, a disconnect is not noticed either
            self.transport.pause_reading()
        elif not self._lingers:
            self._reader.waiting += data
            self._read_on()

    def _read_on(self) -> None:
        """Parse what has arrived of the current request, and begin the next one once that has been answered."""
        while not (is_whole := self._reader.ended and self._is_serving()) and not self.transport.is_closing():
            if self._reader.ended:
                self.cycle = None  # type: ignore[assignment]  # as in uvicorn before the first request
                self._unread_bytes = 0
            try:
                part = self._reader.take()
            except BadRequest as error:
                self.send_400_response(str(error))
                return
            if not part:
                break
            super().data_received(part)
            if self._reader.expects and self.cycle is not None:
                self.cycle.keep_alive = False  # after a refusal, nothing may be read behind it
        if not is_whole:
            self._start()
            return
        self._stop()
        if self._reader.waiting:
            self.flow.pause_reading()  # until the response is complete

    def _is_serving(self) -> bool:
        # None until uvicorn has seen a head, whatever its annotations say.
        return self.cycle is not None and not self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Answer what is not valid HTTP, if a response can still begin, and close."""
        self._record("http_error", "invalid HTTP")
        if self.cycle is None or not self.cycle.response_started:
            headers = (*self.server_state.default_headers, *_BAD_REQUEST, (b"content-length", b"%d" % len(msg)))
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (lines, msg.encode()))
        self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application has no client to answer any more
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Leave the connection to the keep-alive time-out, or go on with a pipelined request."""
        if self._reader.ended and not self._lingers:
            self._stop()
        super().on_response_complete()
        if self._reader.waiting and not self._lingers:
            self.context.copy().run(self._read_on)  # this is still the task of the request before it

    def shutdown(self) -> None:
        """Close an idle connection, and from now on without lingering: the server is about to end."""
        self._is_ending = True
        super().shutdown()
        if self._lingers:
            self._connection.close()

    def is_closing(self) -> bool:
        """Whether nothing more is served on this connection."""
        return self._lingers or self._connection.is_closing()

    def close(self) -> None:
        """Close, but let a client first finish sending: else a reset may overtake the response."""
        is_done = self._reader.ended and not self._reader.waiting
        if self._is_ending or self.is_closing() or is_done:
            self._connection.close()
            return
        self._lingers = True
        try:
            self._connection.write_eof()
        except OSError:  # the client has disconnected
            self._connection.abort()
            return
        self.flow.resume_reading()
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadlines and give the place back."""
        self._stop()
        self._stop_sending()
        self.limits.leave(self._place)
        super().connection_lost(exc)
        count_connections(-1)

    def _start(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receive_timeout, self._expire)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        self._connection.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        left = self.transport.get_write_buffer_size()
        self._send_deadline = self.loop.call_later(self.send_timeout, self._expire_sending, left)

    def resume_writing(self) -> None:
        self._stop_sending()
        super().resume_writing()

    def _stop_sending(self) -> None:
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None

    def _expire_sending(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < _MIN_TAKEN_BYTES:
            self._record("http_error", "does not take its answer")
            self.transport.abort()  # `close` would wait for the client once more
        else:
            self.pause_writing()  # still

    def _record(self, kind: Kind, reason: str) -> None:
        self.events.record(kind, self.client[0] if self.client else "unknown", reason=reason)


def deadline_protocol(receive_timeout: float, **attributes: Any) -> type[DeadlineProtocol]:
    """Return the protocol class for uvicorn's `http` option, with these class attributes."""
    return type("DeadlineProtocol", (DeadlineProtocol,), {"receive_timeout": receive_timeout, **attributes})
