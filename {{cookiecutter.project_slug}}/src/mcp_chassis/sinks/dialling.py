"""Connections for the safe fetcher: to judged addresses only, and with an end to what comes back over them."""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2

from .addresses import IPAddress
from .errors import InvalidInput

_ONE_READ = 16_384  # bytes: what is read at once is parsed at once, while everybody else waits


class FetchError(InvalidInput):
    """A URL was not fetched: it may not be, or its server does not answer properly.

    The caller chose the URL and may read the message, which says nothing of the network inside.
    """


class JudgedBackend(httpcore2.AnyIOBackend):
    """Dials the judged addresses, whatever name httpcore asks for: no second look-up can change the answer.

    Args:
        addresses: None dials the name: the one of the egress proxy.
        max_bytes: most that is read from a connection.
    """

    def __init__(self, addresses: list[IPAddress] | None, max_bytes: int) -> None:
        self._addresses = addresses
        self._max_bytes = max_bytes

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError("no address")
        for address in [host] if self._addresses is None else self._addresses:
            try:
                stream = await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return BoundedStream(stream, self._max_bytes)
        raise failure


class BoundedStream(httpcore2.AsyncNetworkStream):
    """Bounds what comes over the wire: also heads, interim answers and the framing of chunks, which are no body."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, max_bytes: int) -> None:
        self._stream = stream
        self._left = max_bytes

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        data = await self._stream.read(min(max_bytes, _ONE_READ), timeout)
        self._left -= len(data)
        if self._left < 0:
            raise FetchError("the answer is too large")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        return BoundedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
