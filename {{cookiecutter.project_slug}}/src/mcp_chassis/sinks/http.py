"""One HTTP exchange of a tool with another system: to checked addresses, within limits, and whose fault a failure is.

httpcore itself has no proxies from the environment, no cookies, no redirects and no decompression.
"""

import asyncio
import errno
import math
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import FrozenInstanceError, dataclass, fields
from functools import cache
from ipaddress import ip_address
from typing import Any, TypeVar

import anyio
import httpcore2
import httpx2
from pydantic import TypeAdapter

from .addresses import IPAddress
from .errors import ConfigurationError, UpstreamError
from .urls import Target

_Kind = TypeVar("_Kind")

call_deadline: ContextVar[float] = ContextVar("call_deadline", default=math.inf)
"""When the tool call ends, by the clock of the event loop."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
NETWORK_ERRORS = (
    *(httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError),
    ssl.SSLError,  # after the handshake
)
_CONNECT_SECONDS = 5.0  # for one address: a name may have several
_MAX_READ_BYTES = 16_384  # what is read at once is parsed at once, while every other request waits
_MAX_HEAD_BYTES = 131_072  # of the whole response's heads
_WITHOUT_BODY = frozenset({204, 304})  # a server that sends one all the same may send it later
_MAX_CHUNKS = 10_000  # of one body: a million chunks of one byte keep a processor busy for a minute
# Encodings of the web (Encoding Standard). Python has others that take quadratic time (punycode) or run escapes.
_ENCODINGS = frozenset(
    {"utf-8", "utf-16", "us-ascii", "koi8-r", "shift_jis", "euc-jp", "euc-kr", "gbk", "gb18030", "big5"}
    | {f"iso-8859-{part}" for part in (1, 2, 9, 15)}
    | {f"windows-{page}" for page in range(1250, 1257)}
)
# RFC 9110, sections 5.1 and 5.5, without obs-text.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
# Where a request ends and what becomes of its connection is decided here (RFC 9110, section 7.6.1; 9112, section 6).
_OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_OWN_FAULTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # this process is short of something
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A server's response. Header names are in lower case; `url` is the last one, after redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def text(self) -> str:
        """Return the body in its declared encoding, or UTF-8. What does not decode becomes U+FFFD."""
        declared = re.search(r'charset="?([\w-]+)', self.headers.get("content-type", ""))
        name = declared[1].lower() if declared else ""
        return self.body.decode(name if name in _ENCODINGS else "utf-8", errors="replace")

    def json(self) -> Any:
        """Return the JSON value of a successful response. See `json_as`."""
        return self.json_as(object)

    def json_as(self, kind: type[_Kind]) -> _Kind:
        """Return the JSON value of a successful response as a model, or what else pydantic can make of it.

        Raises:
            UpstreamError: if the status is not 2xx, or the body is not JSON of that kind.
        """
        origin = "/".join(self.url.split("/")[:3])
        if not 200 <= self.status < 300:
            raise UpstreamError(f"The service that the tool asked answered with status {self.status}.", cause=origin)
        try:
            return TypeAdapter(kind).validate_json(self.body)
        except ValueError:  # whose text would quote the body
            raise UpstreamError("the server's answer is not the JSON that it should be", cause=origin) from None


class AddressRefused(Exception):
    """A host has an address that may not be connected to."""


class AddressAbsent(AddressRefused):
    """A host's name has no address."""


class Lookups:
    """Looks up names in threads of its own: a look-up cannot be cancelled, and a slow one keeps its thread.

    If all threads are in use, the next look-up waits for one, or fails at once.
    """

    def __init__(self, threads: int, *, waits: bool) -> None:
        self._free = threading.Semaphore(sys.maxsize if waits else threads)
        self._threads = ThreadPoolExecutor(threads, "look-up")

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return all addresses of a name, or raise AddressAbsent."""
        if not self._free.acquire(blocking=False):
            raise UpstreamError("too many names are being looked up")
        work = self._threads.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        work.add_done_callback(lambda _: self._free.release())
        try:
            answers = await asyncio.wrap_future(work)
        except (UnicodeError, socket.gaierror) as error:
            if isinstance(error, UnicodeError) or error.errno in _NO_SUCH_NAME:
                raise AddressAbsent from None
            raise UpstreamError("the server's name cannot be looked up now", cause=_cause_of(error)) from error
        return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


# Callers choose names that take long, so theirs have other threads than those of the team's services.
LOOKUPS_OF_CALLERS = Lookups(64, waits=False)
LOOKUPS_OF_SERVICES = Lookups(16, waits=True)


class CheckedBackend(httpcore2.AnyIOBackend):
    """Resolves a name once for every connection, checks all addresses, and connects to no other.

    Without a check it connects to the host that httpcore asks for, a proxy.
    """

    def __init__(self, allows: Callable[[IPAddress], bool] | None, max_bytes: int, lookups: Lookups) -> None:
        self._allows = allows
        self._lookups = lookups
        self._max_bytes = 2 * max_bytes + _MAX_HEAD_BYTES

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError("no address")
        for address in [host] if self._allows is None else await self._addresses(host, port, self._allows):
            try:
                return BoundedStream(await super().connect_tcp(address, port, *args, **options), self._max_bytes)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _addresses(self, host: str, port: int, allows: Callable[[IPAddress], bool]) -> list[str]:
        try:
            found = [str(ip_address(host.strip("[]")))]
        except ValueError:
            found = await self._lookups.addresses(host, port)
        # One address that is not allowed refuses the whole name: an honest service has none.
        if not all(allows(ip_address(address)) for address in found):
            raise AddressRefused
        return found


class BoundedStream(httpcore2.AsyncNetworkStream):
    """Limits all bytes that a request is answered with, also headers, interim responses and the framing of chunks.

    It also ends a connection on which more came than the response: the next request, perhaps another caller's, would
    read it as its own response.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = self._left = max_bytes
        self._is_answering = False  # something was read since the last write
        self._may_hold_more = False  # below, after a read of all that was asked for
        self.is_reusable = False
        """Whether the response is known to be all that came so far."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  (httpcore's interface)
        limit = min(max_bytes, _MAX_READ_BYTES)
        data = await self._stream.read(limit, timeout)
        self._is_answering, self._may_hold_more = True, len(data) == limit
        self._left -= len(data)
        if self._left < 0:
            raise UpstreamError("the answer is too large")
        return data

    async def write(self, *args: Any, **options: Any) -> None:
        if self._is_answering:  # the next request of a kept connection: HTTP/1.1 does not read in between
            if self.get_extra_info("is_readable"):
                raise httpcore2.ConnectionNotAvailable  # the pool closes this one and takes another
            self._left, self._is_answering, self.is_reusable = self._max_bytes, False, False
        await self._stream.write(*args, **options)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and (not self.is_reusable or self._may_hold_more or self._has_decrypted()):
            return True  # the pool closes an idle connection that is
        return self._stream.get_extra_info(info)

    def _has_decrypted(self) -> bool:
        """Whether TLS has taken more from the socket than was read. What is read here is lost, with the connection."""
        tls = self._stream.get_extra_info("ssl_object")
        try:
            return tls is not None and tls.read(1) is not None
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True

    async def start_tls(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return BoundedStream(await self._stream.start_tls(*args, **options), self._max_bytes)


def sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with their names in lower case, or raise ConfigurationError if one cannot be sent."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError("a header's name holds a character that names of headers cannot have")
        if name.lower() in _OF_THE_CONNECTION:
            raise ConfigurationError(f"the header {name} cannot be chosen: it is about the connection")
        if not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(f"the value of the header {name} cannot be sent: a line break, a space at an end?")
    return {name.lower(): value for name, value in headers.items()}


@dataclass(kw_only=True, eq=False, repr=False)
class HttpClient:
    """What `SafeFetcher` and `Upstream` have in common. No attribute can be changed: what was checked stays in force.

    Args:
        max_bytes: largest body of a response.
        timeout: seconds for a whole request, from the first look-up to the last byte of the body. Less if the tool call
            ends before.
        ca_file: certificate authorities in PEM form, trusted instead of the system's. Read once.
        ssl_context: in place of `ca_file`, for more than that, such as a client certificate.
        proxy: URL of an HTTP proxy, with user name and password if it needs them. It resolves the names, and has to
            refuse the addresses that are refused here without one.
    """

    max_bytes: int = 1_000_000
    timeout: float = 15.0
    ca_file: str | os.PathLike[str] | None = None
    ssl_context: ssl.SSLContext | None = None
    proxy: str | None = None

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or not 0 < self.timeout < math.inf:
            raise ConfigurationError("max_bytes and timeout must be positive and finite")
        if self.ca_file is not None:
            self.ssl_context = _authorities_in(self.ca_file)
        self._proxy = None if self.proxy is None else _proxy_at(self.proxy, self.ssl_context or system_authorities())

    def __setattr__(self, name: str, value: Any) -> None:
        if "_proxy" in vars(self) and name in {field.name for field in fields(self)}:
            raise FrozenInstanceError(f"{name} cannot be changed: make another {type(self).__name__}")
        super().__setattr__(name, value)

    def _new_pool(
        self, allows: Callable[[IPAddress], bool], *, for_callers: bool = False, **options: Any
    ) -> httpcore2.AsyncConnectionPool:
        """Return a pool that connects to the proxy or, without one, to addresses that `allows` accepts."""
        lookups = LOOKUPS_OF_CALLERS if for_callers else LOOKUPS_OF_SERVICES
        backend = CheckedBackend(allows if self._proxy is None else None, self.max_bytes, lookups)
        authorities = self.ssl_context or system_authorities()
        return httpcore2.AsyncConnectionPool(authorities, self._proxy, network_backend=backend, **options)

    async def _exchange(
        self,
        pool: httpcore2.AsyncConnectionPool,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        content: bytes | None,
        *,
        skips_redirects: bool = False,
    ) -> Fetched:
        """Send one request and read the response, but not the body of a redirect that is skipped."""
        own = {"host": target.authority, "accept-encoding": "identity"}
        request = pool.stream(
            method,
            httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
            headers=list(({"accept": "*/*"} | dict(headers) | own).items()),
            content=content,
            # The certificate, too, must be for `sni_hostname`.
            extensions={"timeout": {"connect": _CONNECT_SECONDS}, "sni_hostname": target.host.strip("[]")},
        )
        async with request as response:
            received = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            skipped = skips_redirects and response.status in REDIRECTS and "location" in received
            body = b"" if skipped else await _body(response, received.get("content-encoding"), self.max_bytes)
            connection = response.extensions["network_stream"]
            if isinstance(connection, BoundedStream) and method != "HEAD" and response.status not in _WITHOUT_BODY:
                connection.is_reusable = _is_all_that_came(response)
        return Fetched(response.status, received, body, target.origin + target.path)

    async def _in_time(self, work: Callable[[], Awaitable[Fetched]]) -> Fetched:
        """Return what `work` returns, or raise UpstreamError or ConfigurationError, depending on whose fault it is."""
        left = min(call_deadline.get(), anyio.current_effective_deadline()) - anyio.current_time()
        if left < math.inf:
            left -= min(0.25, left / 10)  # to say so before the call ends
        limit = min(self.timeout, left)
        try:
            with anyio.fail_after(limit):
                return await work()
        except TimeoutError:
            raise UpstreamError(f"the server did not finish within {max(0, round(limit, 1)):g} seconds") from None
        except httpcore2.LocalProtocolError:  # whose text would quote the header
            raise ConfigurationError("the request has a header or a body that HTTP cannot carry") from None
        except NETWORK_ERRORS as error:
            if any(isinstance(one, OSError) and one.errno in _OWN_FAULTS for one in chain(error)):
                raise ConfigurationError(f"no connection can be opened: {_cause_of(error)}") from error
            text = "the server does not answer, or its certificate or its answer is not valid"
            raise UpstreamError(text, cause=_cause_of(error)) from error


def _is_all_that_came(response: httpcore2.Response) -> bool:
    """Whether nothing follows the response in the bytes that were parsed so far.

    No public interface of httpcore shows it. If a version keeps it elsewhere, no connection is used again.
    """
    part: Any = response.stream
    for name in ("_stream", "_connection", "_h11_state", "trailing_data"):
        part = getattr(part, name, None)
    return bool(part == (b"", False))


async def _body(response: httpcore2.Response, encoding: str | None, max_bytes: int) -> bytes:
    body = bytearray()
    chunks = 0
    async for chunk in response.aiter_stream():
        if encoding not in {None, "identity"}:  # nothing here decompresses: a bomb stays as small as it came
            raise UpstreamError("the server compresses its answer though it was asked not to")
        body += chunk
        chunks += 1
        if len(body) > max_bytes:
            raise UpstreamError(f"the answer is larger than {max_bytes} bytes")
        if chunks > _MAX_CHUNKS:
            raise UpstreamError("the answer comes in too many pieces")
    return bytes(body)


def _cause_of(error: BaseException) -> str:
    """Return types of errors and the system's own texts for them: others may quote what was sent or received."""
    return " < ".join(_system_text(one) for one in chain(error))


def _system_text(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{name} ({error.verify_message})"
    if isinstance(error, httpcore2.ProxyError) and (status := re.match("[0-9]{3}", str(error))):
        return f"{name} ({status[0]})"
    return f"{name} ({error.strerror})" if isinstance(error, OSError) and error.strerror else name


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@cache
def system_authorities() -> ssl.SSLContext:
    """Return a TLS context that trusts the system's certificate authorities, or those in SSL_CERT_FILE instead."""
    ca_file = os.environ.get("SSL_CERT_FILE")
    return _authorities_in(ca_file) if ca_file else httpx2.create_ssl_context(trust_env=False)


def _authorities_in(ca_file: str | os.PathLike[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca_file)
    except OSError:  # ssl.SSLError is one
        raise ConfigurationError(f"{ca_file} cannot be read, or holds no certificate in PEM form") from None
    return context


def _proxy_at(url: str, authorities: ssl.SSLContext) -> httpcore2.Proxy:
    try:
        proxy = httpx2.Proxy(url)
        if proxy.url.scheme not in {"http", "https"} or not proxy.url.host:
            raise ValueError
        context = authorities if proxy.url.scheme == "https" else None  # it speaks TLS itself
        return httpcore2.Proxy(str(proxy.url), proxy.raw_auth, ssl_context=context)
    except (ValueError, httpx2.InvalidURL):  # whose text would quote a password
        raise ConfigurationError("the URL of the proxy is not of the form http://host:port") from None
