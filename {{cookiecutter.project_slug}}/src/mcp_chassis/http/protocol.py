"""HTTP/1.1 for the open internet: uvicorn by itself lets silent, slow, deaf and countless clients stay for ever."""

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..counters import count_connections
from ..events.log import Kind
from ..middleware.responses import Refusal
from ..middleware.security_headers import HEADERS, SecurityHeadersLayer
from .connections import Connections, Place
from .framing import BadRequest, RequestReader

_TOLD_TIMEOUT = 1.0  # seconds in which a connection too many may ask, to be told that it is one too many
_LEAST_TAKEN = 65_536  # bytes that a client has to take within the send time-out, if an answer is larger

_FULL = {
    "full": SecurityHeadersLayer(Refusal(503, "All connections are in use. Try again in a moment.", close=True)),
    "full for this address": SecurityHeadersLayer(
        Refusal(429, "Your address has too many open connections. Close some.", close=True)
    ),
}
_BAD_REQUEST = (*HEADERS, (b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close"))


class _Transport:
    """What uvicorn writes to and closes, with another way to close it."""

    def __init__(self, transport: asyncio.Transport, protocol: "DeadlineProtocol") -> None:
        self._transport = transport
        # Weak: two that hold each other would keep the last message of a connection until the garbage is collected.
        self._protocol = weakref.ref(protocol)
        self.write = transport.write

    def is_closing(self) -> bool:
        protocol = self._protocol()
        return protocol is None or protocol.is_closing()

    def close(self) -> None:
        if (protocol := self._protocol()) is not None:
            protocol.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose request, headers and body, has not arrived in time, or whose answer is not taken.

    The first clock runs only while the server waits for the client: a long tool call is not cut. Between requests,
    uvicorn's keep-alive time-out does the same job. The second runs only while an answer is larger than what the
    operating system takes at once.
    """

    receive_timeout: float = 10
    """Seconds from the connection, or from the first byte of a further request, to the last byte of the body."""
    send_timeout: ClassVar[float] = 10
    """Seconds in which a client takes its answer, or 64 KB more of it."""
    most_unread: ClassVar[int] = 1_048_576
    """Bytes of a body that are still taken after its request has been refused. To hang up would be a reset, which may
    overtake the answer (RFC 9112, section 9.6); a client that sends more than this waits, and has its deadline."""
    places: ClassVar[Connections] = Connections(1000, 1000)
    note: ClassVar[Callable[[Kind, str, str], None]] = lambda *_: None
    """Called with a kind of event, an address and a reason, when a client has been refused here."""

    _deadline: asyncio.TimerHandle | None = None
    _send_deadline: asyncio.TimerHandle | None = None
    _place: Place | None = None
    _left_unread = 0
    _lingers = False
    _is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place and start the clock."""
        self._reader = RequestReader()
        self._connection = transport
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        count_connections(1)
        transport.set_write_buffer_limits(high=0)  # tells us of every byte that is not taken at once
        self._place = self.places.take(self.client[0] if self.client else "")
        if self._place.state != "open":
            self._note("rate_limit_exceeded", "too many connections")
            if self._place.state == "hang up":
                transport.abort()
                return
            self.app = _FULL[self._place.state]
            self.receive_timeout = min(_TOLD_TIMEOUT, self.receive_timeout)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stop the clock once the request is whole; start it with the first byte of another one."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        is_refused = not self._reader.ended and self.cycle is not None and self.cycle.response_complete
        unread = self._lingers or is_refused
        self._left_unread = self._left_unread + len(data) if unread else 0
        if self._left_unread > self.most_unread:
            self._start()  # who is not read any more is not seen to leave, either
            self.transport.pause_reading()
            return
        if not self._lingers:
            self._reader.waiting += data
            self._read_on()

    def _read_on(self) -> None:
        """Parse what there is of the present request, and begin the next one once that has been answered."""
        while not (is_whole := self._reader.ended and self._is_serving()) and not self.transport.is_closing():
            if self._reader.ended:
                self.cycle = None  # type: ignore[assignment]  # as uvicorn has it before the first request
                self._left_unread = 0
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
            self.flow.pause_reading()  # until the answer is complete

    def _is_serving(self) -> bool:
        # None until uvicorn has seen a head, whatever its annotations say.
        return self.cycle is not None and not self.cycle.response_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header without the white space behind its value, which httptools keeps."""
        super().on_header(name, value.rstrip(b" \t"))

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, if an answer can still begin, and close."""
        self._note("http_error", "invalid HTTP")
        if self.cycle is None or not self.cycle.response_started:
            headers = (*self.server_state.default_headers, *_BAD_REQUEST, (b"content-length", b"%d" % len(msg)))
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (lines, msg.encode()))
            self.transport.close()
        else:
            self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True  # whoever still serves this connection has nobody to answer
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Leave the connection to the keep-alive time-out, or go on with a pipelined request."""
        if self._reader.ended and not self._lingers:
            self._stop()
        super().on_response_complete()
        if self._reader.waiting and not self._lingers:
            self._read_on()

    def shutdown(self) -> None:
        """Close what nobody waits for, and from now on without lingering: the server is about to end."""
        self._is_ending = True
        super().shutdown()
        if self._lingers:
            self._connection.close()

    def pause_writing(self) -> None:
        """Start the clock of a client that does not take its answer."""
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        """Stop that clock: everything has been taken."""
        self._stop_sending()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks and give the place back."""
        self._stop()
        self._stop_sending()
        if self._place is not None:
            self.places.leave(self._place)
            self._place = None
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

    def is_closing(self) -> bool:
        """Whether nothing more is served on this connection."""
        return self._lingers or self._connection.is_closing()

    def close(self) -> None:
        """Close, but let a client first send what it is sending: else a reset may overtake the answer."""
        is_done = self._reader.ended and not self._reader.waiting
        if self._is_ending or self.is_closing() or is_done:
            self._connection.close()
            return
        self._lingers = True
        try:
            self._connection.write_eof()
        except OSError:  # it has gone
            self._connection.abort()
            return
        self.flow.resume_reading()
        self._start()

    def _watch_sending(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._send_deadline = self.loop.call_later(self.send_timeout, self._expire_sending, left)

    def _stop_sending(self) -> None:
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None

    def _expire_sending(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < _LEAST_TAKEN:
            self._note("http_error", "does not take its answer")
            self.transport.abort()  # to close would be to wait for the client once more
        else:
            self._watch_sending()

    def _note(self, kind: Kind, reason: str) -> None:
        type(self).note(kind, self.client[0] if self.client else "unknown", reason)


def deadline_protocol(receive_timeout: float, **attributes: Any) -> type[DeadlineProtocol]:
    """Return the protocol class for uvicorn's `http` option, with these class attributes."""
    return type("DeadlineProtocol", (DeadlineProtocol,), {"receive_timeout": receive_timeout, **attributes})
