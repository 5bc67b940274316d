"""HTTP/1.1 with a deadline for receiving: uvicorn by itself lets silent and slow clients stay for ever."""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class DeadlineProtocol(H11Protocol):
    """Closes a connection whose request, headers and body, has not arrived in time.

    The clock runs only while the server waits for the client: a long tool call is not cut. Between requests, uvicorn's
    keep-alive time-out does the same job.
    """

    receive_timeout: ClassVar[float] = 10
    """Seconds from the connection, or from the first byte of a further request, to the last byte of the body."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stop the clock once the request is whole; start it with the first byte of another one."""
        super().data_received(data)
        # Both are None until uvicorn has seen a request line, whatever its annotations say.
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._stop()
        else:
            self._start()

    def on_response_complete(self) -> None:
        """Leave the connection to the keep-alive time-out."""
        self._stop()
        super().on_response_complete()
        # In there a pipelined request may have begun, whose body is still to come.
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body:
            self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receive_timeout, self._expire)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        self.transport.close()


def deadline_protocol(receive_timeout: float) -> type[DeadlineProtocol]:
    """Return the protocol class for uvicorn's `http` option, with its deadline in seconds."""
    return type("DeadlineProtocol", (DeadlineProtocol,), {"receive_timeout": receive_timeout})
