"""Outbound HTTP to one service that the team chose: an internal API, with this server's own credential for it.

The base URL decides scheme, host, port and path, and no value of a caller changes them. The caller's own token never
gets here: what is sent as `Authorization` is what the upstream's provider returns (MCP, Security Best Practices, token
passthrough).
"""

import math
import re
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import ip_network
from time import time
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import unquote, urlencode

import anyio
import httpcore2
import pydantic_core

from .addresses import IPAddress, is_public, is_within
from .errors import ConfigurationError, InvalidInput, UpstreamError
from .http import NETWORK_ERRORS, REDIRECTS, AddressAbsent, AddressRefused, Fetched, HttpClient, chain, sendable
from .urls import Target, encoded, parse_url

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110, section 9.2.2
_CERTAIN = (ssl.SSLCertVerificationError, httpcore2.LocalProtocolError)
_NOT_CONNECTED = (httpcore2.ConnectError, httpcore2.ConnectTimeout)
_BUSY = frozenset({429, 503})
_PAUSES = (0.1, 0.5)  # seconds before the second and the third attempt
_MAX_CONNECTIONS = 20
_KEPT_SECONDS = 15.0
# Where an internal name may lead if nothing is said. Not to link-local addresses, where metadata services are.
_PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_FAILED = "A service that the tool needs does not answer properly. Try again later."


class _Options(TypedDict, total=False):
    params: Mapping[str, str | int | Sequence[str | int]]
    headers: Mapping[str, str]
    json: Any
    content: bytes


@dataclass(eq=False, repr=False)
class Upstream(HttpClient):
    """One HTTP service. Open it with `async with` in the lifespan: its connections are kept between calls.

    Args:
        base_url: such as `https://stock.internal:8443/api`. Requests never leave its host, port and path.
        networks: where the host may be. Default: private networks and the public internet; loopback if the host is
            `localhost`; an address, if it is one.
        authorization: returns the value of `Authorization` for each request, such as `Bearer ...`.
        max_bytes, timeout, ca_file, ssl_context, proxy: see `HttpClient`. `timeout` is for all repetitions together.

    Raises:
        ConfigurationError: if the base URL is none, a limit cannot be one, or the proxy or the file cannot be used.
    """

    base_url: str
    _: KW_ONLY
    networks: Collection[str] = ()
    authorization: Callable[[], Awaitable[str]] | None = None
    timeout: float = 10.0

    def __post_init__(self) -> None:
        if self.proxy is not None and self.networks:
            raise ConfigurationError("An Upstream behind a proxy cannot check `networks`: the proxy resolves the name.")
        super().__post_init__()
        try:
            self._networks = tuple(map(ip_network, self.networks))
            self._base = parse_url(self.base_url)
            if re.search("[?#]", self.base_url) or not {".", ".."}.isdisjoint(unquote(self._base.path).split("/")):
                raise ValueError("the path must have no '..', query or fragment")
        except ValueError as error:
            raise ConfigurationError(f"The base URL or the networks of an Upstream are not valid: {error}") from None
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def __aenter__(self) -> Self:
        self._pool = self._new_pool(self._allows, max_connections=_MAX_CONNECTIONS, keepalive_expiry=_KEPT_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    async def get(self, path: str, *values: str | int, **options: Unpack[_Options]) -> Fetched:
        """Send a GET. See `request`."""
        return await self.request("GET", path, *values, **options)

    async def post(self, path: str, *values: str | int, **options: Unpack[_Options]) -> Fetched:
        """Send a POST. See `request`."""
        return await self.request("POST", path, *values, **options)

    async def put(self, path: str, *values: str | int, **options: Unpack[_Options]) -> Fetched:
        """Send a PUT. See `request`."""
        return await self.request("PUT", path, *values, **options)

    async def patch(self, path: str, *values: str | int, **options: Unpack[_Options]) -> Fetched:
        """Send a PATCH. See `request`."""
        return await self.request("PATCH", path, *values, **options)

    async def delete(self, path: str, *values: str | int, **options: Unpack[_Options]) -> Fetched:
        """Send a DELETE. See `request`."""
        return await self.request("DELETE", path, *values, **options)

    async def request(self, method: str, path: str, *values: str | int, **options: Unpack[_Options]) -> Fetched:
        """Send a request and return the response, if its status is below 500 and neither 429 nor a redirect.

        It is sent again, twice at most: any method if no connection was made; GET, HEAD, OPTIONS, PUT and DELETE also
        if the connection broke, and when `Retry-After` of a 429 or 503 says so.

        Args:
            method: the method, in capitals.
            path: below the base URL, without a query. Write it yourself.
            values: appended, each as one segment of the path: `get("/users", user, "notes")`.
            options: `params` for the query, `headers`, and a body as `json` or `content` (bytes).

        Raises:
            InvalidInput: if a part of the path is empty, `.` or `..`.
            UpstreamError: if the service does not answer properly, in time and within the size.
            ConfigurationError: if the request cannot be sent as it is, or its host is not where it should be.
        """
        pool = self._pool
        if pool is None:
            raise ConfigurationError("The Upstream is not open: enter it with `async with` in the lifespan.")
        headers, content = sendable(options.get("headers", {})), options.get("content")
        if "authorization" in headers:
            raise ConfigurationError("Give the Upstream an `authorization` provider rather than a header.")
        if "json" in options:
            headers["content-type"], content = "application/json", pydantic_core.to_json(options["json"])
        target = self._target(path, values, options.get("params", {}))
        try:
            headers |= await self._credential()
            send = partial(self._exchange, pool, method, target, headers, content)
            return await self._in_time(lambda: _repeated(send, is_idempotent=method in _IDEMPOTENT))
        except AddressAbsent:
            raise UpstreamError(_FAILED, cause=f"{self._base.origin}: its name has no address") from None
        except AddressRefused:
            raise ConfigurationError(f"{self._base.origin} has an address outside of its `networks`.") from None
        except UpstreamError as error:
            raise UpstreamError(_FAILED, cause=f"{self._base.origin}: {error} [{error.cause}]") from error

    async def _credential(self) -> dict[str, str]:
        if self.authorization is None:
            return {}
        try:
            value = await self.authorization()
        except InvalidInput as error:  # a provider knows no caller's input
            raise ConfigurationError(f"The provider of `authorization` failed: {error}") from error
        if not value:
            raise ConfigurationError("The provider of `authorization` returned nothing.")
        return sendable({"authorization": value})

    def _target(self, path: str, values: Sequence[str | int], params: Mapping[str, Any]) -> Target:
        own = path.strip("/").split("/") if path.strip("/") else []
        parts = [encoded("a part of the path", part, safe="!$&'()*+,:=@") for part in own]
        parts += [encoded("a part of the path", str(value)) for value in values]
        whole = "/".join([self._base.path.rstrip("/"), *parts]) + ("/" if path.endswith("/") and not values else "")
        return replace(self._base, path=(whole or "/") + (f"?{urlencode(params, doseq=True)}" if params else ""))

    def _allows(self, address: IPAddress) -> bool:
        if self._networks:
            return is_within(address, self._networks)
        if self._base.is_address:
            return str(address) == self._base.host.strip("[]")
        if f".{self._base.host}".endswith(".localhost"):
            return is_within(address, _LOOPBACK)
        return is_public(address, also=_PRIVATE)


async def _repeated(send: Callable[[], Awaitable[Fetched]], *, is_idempotent: bool) -> Fetched:
    for pause in (*_PAUSES, math.inf):
        failure: Exception
        try:
            response = await send()
        except NETWORK_ERRORS as error:
            failure, wait = error, pause
            would_fail_again = any(isinstance(one, _CERTAIN) for one in chain(error))
            if would_fail_again or not (is_idempotent or isinstance(error, _NOT_CONNECTED)):
                raise
        else:
            if response.status in REDIRECTS:  # the credential is for this place
                raise UpstreamError(f"the server redirects, with status {response.status}")
            if response.status < 500 and response.status not in _BUSY:
                return response
            failure = UpstreamError(f"the server answered with status {response.status}")
            wait = max(pause, _retry_after(response))
            if not is_idempotent or response.status not in _BUSY:
                raise failure
        if anyio.current_time() + wait >= anyio.current_effective_deadline():
            raise failure
        await anyio.sleep(wait)
    raise AssertionError("the last pause has no end")


def _retry_after(response: Fetched) -> float:
    """Return the seconds that a server asks to wait (RFC 9110, section 10.2.3); infinite if it does not."""
    text = response.headers.get("retry-after", "")
    if re.fullmatch("[0-9]{1,6}", text):
        return int(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time()
    except (ValueError, OverflowError):  # a year that no calendar has
        return math.inf
