"""Connections for `SafeFetcher`: to checked addresses only, and with a limit on the bytes that come back."""

from collections.abc import Sequence
from typing import Any

import httpcore2

from .errors import InvalidInput

_MAX_READ_BYTES = 16_384  # what is read at once is parsed at once, while every other request waits


class FetchError(InvalidInput):
    """A URL was not fetched: it is not allowed, or its server does not answer properly.

    The caller chose the URL and may read the message, which says nothing about the internal network.
    """


class CheckedBackend(httpcore2.AnyIOBackend):
    """Connects to the given addresses, whatever host httpcore asks for: no second look-up can change the answer.

    Args:
        addresses: None connects to the host that httpcore asks for, the egress proxy.
        max_bytes: most that is read from a connection.
    """

    def __init__(self, addresses: Sequence[str] | None, max_bytes: int) -> None:
        self._addresses = addresses
        self._max_bytes = max_bytes

    async def connect_tcp(self, host: str, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError("no address")
        for address in [host] if self._addresses is None else self._addresses:
            try:
                return BoundedStream(await super().connect_tcp(address, *args, **options), self._max_bytes)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class BoundedStream(httpcore2.AsyncNetworkStream):
    """Limits all bytes of a connection, also headers, interim responses and the framing of chunks."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, max_bytes: int) -> None:
        self._stream = stream
        self._left = max_bytes

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  (httpcore's interface)
        data = await self._stream.read(min(max_bytes, _MAX_READ_BYTES), timeout)
        self._left -= len(data)
        if self._left < 0:
            raise FetchError("the answer is too large")
        return data

    async def write(self, *args: Any, **options: Any) -> None:
        await self._stream.write(*args, **options)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    async def start_tls(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return BoundedStream(await self._stream.start_tls(*args, **options), self._left)
