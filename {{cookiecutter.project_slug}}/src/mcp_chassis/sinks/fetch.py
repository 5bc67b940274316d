"""Outbound HTTP for tools, safe from server-side request forgery (CWE-918).

A name is resolved once, every address is checked, and only a checked address is connected to; TLS still verifies the
name. httpcore itself has no proxies from the environment, no cookies, no redirects and no decompression.
"""

import re
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urljoin

import anyio
import httpcore2
import httpx2

from .addresses import IPNetwork, is_public
from .dialling import CheckedBackend, FetchError
from .errors import InvalidInput
from .urls import Target, read_url

_CONNECT_SECONDS = 5.0  # for one address: a name may have several
_MAX_HEAD_BYTES = 131_072  # of the whole response's heads
_MAX_CHUNKS = 10_000  # of one body: a million chunks of one byte keep a processor busy for a minute
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The caller's headers that may follow a redirect to another origin. Any other may be a credential: no list of names
# (Authorization, Cookie, X-Api-Key, …) is ever complete.
_PORTABLE_HEADERS = frozenset({"accept", "accept-language", "user-agent"})
# Encodings of the web (Encoding Standard). Python has others that take quadratic time (punycode) or run escapes.
_ENCODINGS = frozenset(
    {"utf-8", "utf-16", "us-ascii", "koi8-r", "shift_jis", "euc-jp", "euc-kr", "gbk", "gb18030", "big5"}
    | {f"iso-8859-{part}" for part in (1, 2, 9, 15)}
    | {f"windows-{page}" for page in range(1250, 1257)}
)
_NETWORK_ERRORS = (
    *(httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError),
    OSError,
)


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


@dataclass(kw_only=True, eq=False, repr=False)
class SafeFetcher:
    """Fetches URLs that a caller chose. It keeps nothing between two requests: share one, or make many.

    Args:
        schemes: allowed schemes; `http` only if you name it.
        ports: allowed ports. Default: those of the schemes, 443 and 80.
        networks: internal networks that may be reached beside the public internet.
        proxy: URL of an egress proxy, with user name and password if it needs them. It resolves the names and has to
            refuse internal addresses; here only the URL's text is checked.
        max_bytes: largest body.
        max_redirects: redirects followed; each target passes the same checks. With 0 a redirect is returned as it came.
        timeout: seconds for everything together: look-ups, redirects, and the last byte of the body.
        ssl_context: default: the system's certificate authorities.
    """

    schemes: Collection[str] = ("https",)
    ports: Collection[int] | None = None
    networks: Collection[IPNetwork] = ()
    proxy: str | None = None
    max_bytes: int = 1_000_000
    max_redirects: int = 3
    timeout: float = 15.0
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        _read_proxy(self.proxy)  # an invalid one is refused now, not at the first request

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Fetched:
        """Fetch `url` with GET. See `request`."""
        return await self.request("GET", url, headers=headers)

    async def request(
        self,
        method: Literal["GET", "HEAD", "POST"],
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Fetched:
        """Send one request and return the server's response, whatever its status.

        Args:
            method: a POST is never sent a second time, so its redirects are refused.
            url: as for `validate_url`.
            headers: sent beside our own, which win. To another origin only a few harmless ones are passed on.
            content: the body of a POST.

        Raises:
            FetchError: if the URL or a redirect is not allowed, or the server does not answer properly, in time and
                within the size.
        """
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if not all(text.isascii() and text.isprintable() for header in sent.items() for text in header):
            raise FetchError("a header holds a line break or another character that headers cannot carry")
        try:
            with anyio.fail_after(self.timeout):
                return await self._follow(method, url, sent, content)
        except TimeoutError:
            raise FetchError(f"the server did not finish within {self.timeout:g} seconds") from None
        except _NETWORK_ERRORS as error:
            raise FetchError("the server does not answer, or its certificate or its answer is not valid") from error

    async def _follow(self, method: str, url: str, headers: dict[str, str], content: bytes | None) -> Fetched:
        target = self._target(url)
        for _ in range(self.max_redirects + 1):
            fetched = await self._send(method, target, headers, content)
            if not self._is_followed(fetched.status, fetched.headers):
                return fetched
            if method == "POST":
                raise FetchError("the server redirects a POST")
            before, target = target, self._target(fetched.headers["location"], base=target)
            if target.origin != before.origin:
                headers = {name: value for name, value in headers.items() if name in _PORTABLE_HEADERS}
        raise FetchError(f"the server redirects more than {self.max_redirects} times")

    def _is_followed(self, status: int, headers: Mapping[str, str]) -> bool:
        return status in _REDIRECTS and "location" in headers and self.max_redirects > 0

    def _target(self, url: str, *, base: Target | None = None) -> Target:
        """Return the parts of a URL that is allowed, as far as its text shows.

        Args:
            base: what redirects to it.
        """
        try:
            absolute = url if base is None else urljoin(base.origin + base.path, url)
            target = read_url(absolute, schemes=self.schemes, ports=self.ports, networks=self.networks)
        except InvalidInput as error:
            raise FetchError(str(error)) from None
        except ValueError:  # of urljoin
            raise FetchError("the redirect cannot be parsed") from None
        if base is not None and base.scheme == "https" and target.scheme != "https":
            raise FetchError("a redirect leads from https to http")
        return target

    async def _send(self, method: str, target: Target, headers: dict[str, str], content: bytes | None) -> Fetched:
        """Send one request. The body of a redirect that is followed is not read."""
        own = {"host": target.authority, "connection": "close", "accept-encoding": "identity"}
        addresses = None if self.proxy else await self._addresses(target)
        # A connection belongs to the check before it: none is used for a second request.
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=self.ssl_context or _system_authorities(),
            proxy=_read_proxy(self.proxy),
            network_backend=CheckedBackend(addresses, 2 * self.max_bytes + _MAX_HEAD_BYTES),
        )
        request = pool.stream(
            method,
            httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
            headers=list(({"accept": "*/*"} | headers | own).items()),
            content=content,
            # The certificate, too, must be for `sni_hostname`.
            extensions={"timeout": {"connect": _CONNECT_SECONDS}, "sni_hostname": target.host.strip("[]")},
        )
        async with pool, request as response:
            received = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            followed = self._is_followed(response.status, received)
            body = b"" if followed else await self._body(response, received.get("content-encoding", "identity"))
        return Fetched(response.status, received, body, target.origin + target.path)

    async def _addresses(self, target: Target) -> list[str]:
        if target.is_address:  # which `read_url` has checked
            return [target.host.strip("[]")]
        try:
            answers = await anyio.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            answers = []
        found = dict.fromkeys(str(answer[4][0]) for answer in answers)
        # One internal address refuses the whole name: an honest service has none. An absent name and an internal name
        # get the same message, so that no caller can find out which names exist inside.
        if not found or not all(is_public(ip_address(address), also=self.networks) for address in found):
            raise FetchError("the URL's host has no public address")
        return list(found)

    async def _body(self, response: httpcore2.Response, encoding: str) -> bytes:
        body = bytearray()
        chunks = 0
        async for chunk in response.aiter_stream():
            if encoding != "identity":  # nothing here decompresses: a bomb stays as small as it came
                raise FetchError("the server compresses its answer though it was asked not to")
            body += chunk
            chunks += 1
            if len(body) > self.max_bytes:
                raise FetchError(f"the answer is larger than {self.max_bytes} bytes")
            if chunks > _MAX_CHUNKS:
                raise FetchError("the answer comes in too many pieces")
        return bytes(body)


def _read_proxy(url: str | None) -> httpcore2.Proxy | None:
    if url is None:
        return None
    parsed = httpx2.Proxy(url)
    return httpcore2.Proxy(str(parsed.url), parsed.raw_auth)


@cache
def _system_authorities() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)
