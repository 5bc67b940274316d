"""Outbound HTTP to URLs that a caller chose, safe from server-side request forgery (CWE-918).

A name is resolved once for every request, every address is checked, and only a checked address is connected to; TLS
still verifies the name. For a service that the team chose there is `Upstream`.
"""

import os
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urljoin

import httpcore2

from .addresses import IPNetwork, is_public
from .errors import ConfigurationError, InvalidInput, UpstreamError
from .http import (
    LOOKUPS_OF_CALLERS,
    LOOKUPS_OF_SERVICES,
    REDIRECTS,
    AddressRefused,
    CheckedBackend,
    Fetched,
    authorities_in,
    exchange,
    in_time,
    proxy_at,
    sendable,
    system_authorities,
)
from .urls import Target, read_url

# The caller's headers that may follow a redirect to another origin. Any other may be a credential: no list of names
# (Authorization, Cookie, X-Api-Key, …) is ever complete.
_PORTABLE_HEADERS = frozenset({"accept", "accept-language", "user-agent"})


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
        timeout: seconds for everything together: look-ups, redirects, and the last byte of the body. Less if the tool
            call ends before.
        ca_file: certificate authorities in PEM form, trusted instead of the system's. Read once.
        ssl_context: in place of `ca_file`, for more than that, such as a client certificate.
        for_callers: whether callers choose the names. Theirs may take long to look up, but not keep the team's from it.

    Raises:
        ConfigurationError: if a limit is not positive, or the proxy or the file cannot be used.
    """

    schemes: Collection[str] = ("https",)
    ports: Collection[int] | None = None
    networks: Collection[IPNetwork] = ()
    proxy: str | None = None
    max_bytes: int = 1_000_000
    max_redirects: int = 3
    timeout: float = 15.0
    ca_file: str | os.PathLike[str] | None = None
    ssl_context: ssl.SSLContext | None = None
    for_callers: bool = True

    def __post_init__(self) -> None:
        if self.ca_file is not None:
            self.ssl_context = authorities_in(self.ca_file)
        if self.proxy is not None:
            proxy_at(self.proxy, self.ssl_context or system_authorities())  # an invalid one is refused now
        if self.max_bytes < 1 or self.timeout <= 0 or self.max_redirects < 0:
            raise ConfigurationError("max_bytes and timeout of a SafeFetcher must be positive")

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
            InvalidInput: if the URL is not allowed.
            UpstreamError: if a redirect is not allowed, or the server does not answer properly, in time and within the
                size.
            ConfigurationError: if a header cannot be sent.
        """
        target, sent = self._target(url), sendable(headers or {})
        return await in_time(lambda: self._follow(method, target, sent, content), self.timeout)

    async def _follow(self, method: str, target: Target, headers: dict[str, str], content: bytes | None) -> Fetched:
        fetched = await self._send(method, target, headers, content)
        for _ in range(self.max_redirects):
            if fetched.status not in REDIRECTS or "location" not in fetched.headers:
                return fetched
            if method == "POST":
                raise UpstreamError("the server redirects a POST")
            try:
                before, target = target, self._target(fetched.headers["location"], base=target)
                if target.origin != before.origin:
                    headers = {name: value for name, value in headers.items() if name in _PORTABLE_HEADERS}
                fetched = await self._send(method, target, headers, content)
            except InvalidInput as error:  # the caller chose the first URL only
                raise UpstreamError(f"the server redirects to a URL that is not allowed: {error}") from None
        if self.max_redirects and fetched.status in REDIRECTS and "location" in fetched.headers:
            raise UpstreamError(f"the server redirects more than {self.max_redirects} times")
        return fetched

    def _target(self, url: str, *, base: Target | None = None) -> Target:
        """Return the parts of a URL that is allowed, as far as its text shows.

        Args:
            base: what redirects to it.
        """
        try:
            absolute = url if base is None else urljoin(base.origin + base.path, url)
        except ValueError:
            raise InvalidInput("it cannot be parsed") from None
        target = read_url(absolute, schemes=self.schemes, ports=self.ports, networks=self.networks)
        if base is not None and base.scheme == "https" and target.scheme != "https":
            raise InvalidInput("it leads from https to http")
        return target

    async def _send(self, method: str, target: Target, headers: dict[str, str], content: bytes | None) -> Fetched:
        """Send one request. A connection belongs to the check before it: none is used for a second request."""
        allows = None if self.proxy else lambda address: is_public(address, also=self.networks)
        authorities = self.ssl_context or system_authorities()
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=authorities,
            proxy=proxy_at(self.proxy, authorities),
            network_backend=CheckedBackend(
                allows, self.max_bytes, LOOKUPS_OF_CALLERS if self.for_callers else LOOKUPS_OF_SERVICES
            ),
        )
        headers = headers | {"connection": "close"}
        skips = self.max_redirects > 0
        try:
            async with pool:
                return await exchange(
                    pool, method, target, headers, content, max_bytes=self.max_bytes, skips_redirects=skips
                )
        except AddressRefused:
            # An absent name and an internal name get the same message, so that no caller can find out which names
            # exist inside.
            raise InvalidInput("the URL's host has no public address") from None
