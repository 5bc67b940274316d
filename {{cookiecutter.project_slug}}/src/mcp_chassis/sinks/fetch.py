"""Outbound HTTP to URLs that a caller chose, safe from server-side request forgery (CWE-918).

A name is resolved once for every request, every address is checked, and only a checked address is connected to; TLS
still verifies the name. For a service that the team chose there is `Upstream`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal
from urllib.parse import urljoin

from .addresses import IPNetwork, is_public
from .errors import ConfigurationError, InvalidInput, UpstreamError
from .http import REDIRECTS, AddressRefused, Fetched, HttpClient, sendable
from .urls import Target, read_url

# The caller's headers that may follow a redirect to another origin. Any other may be a credential: no list of names
# (Authorization, Cookie, X-Api-Key, …) is ever complete.
_PORTABLE_HEADERS = frozenset({"accept", "accept-language", "user-agent"})


@dataclass(kw_only=True, eq=False, repr=False)
class SafeFetcher(HttpClient):
    """Fetches URLs that a caller chose. It keeps nothing between two requests: share one, or make many.

    Args:
        schemes: allowed schemes; `http` only if you name it.
        ports: allowed ports. Default: those of the schemes, 443 and 80.
        networks: internal networks that may be reached beside the public internet.
        max_redirects: redirects followed; each target passes the same checks. With 0 a redirect is returned as it came.
        for_callers: whether callers choose the names. Theirs may take long to look up, but not keep the team's from it.
        max_bytes, timeout, ca_file, ssl_context, proxy: see `HttpClient`. `timeout` is for all redirects together.

    Raises:
        ConfigurationError: if a limit cannot be one, or the proxy or the file cannot be used.
    """

    schemes: Collection[str] = ("https",)
    ports: Collection[int] | None = None
    networks: Collection[IPNetwork] = ()
    max_redirects: int = 3
    for_callers: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_redirects < 0:
            raise ConfigurationError("max_redirects must not be negative")

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
            UpstreamError: if a redirect is not allowed, or the server fails, or is too slow, or sends too much.
            ConfigurationError: if a header cannot be sent.
        """
        target, sent = self._target(url), sendable(headers or {})
        return await self._in_time(lambda: self._follow(method, target, sent, content))

    async def _follow(self, method: str, target: Target, headers: dict[str, str], content: bytes | None) -> Fetched:
        fetched, followed = await self._send(method, target, headers, content), 0
        while self.max_redirects and fetched.status in REDIRECTS and "location" in fetched.headers:
            if method == "POST":
                raise UpstreamError("the server redirects a POST")
            if followed == self.max_redirects:
                raise UpstreamError(f"the server redirects more than {self.max_redirects} times")
            followed += 1
            try:
                before, target = target, self._target(fetched.headers["location"], base=target)
                if target.origin != before.origin:
                    headers = {name: value for name, value in headers.items() if name in _PORTABLE_HEADERS}
                fetched = await self._send(method, target, headers, content)
            except InvalidInput as error:  # the caller chose the first URL only
                raise UpstreamError(f"the server redirects to a URL that is not allowed: {error}") from None
        return fetched

    def _target(self, url: str, *, base: Target | None = None) -> Target:
        """Return the parts of a URL, to which `base` may redirect, if its text is allowed."""
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
        allows = partial(is_public, also=self.networks)
        headers, skips = headers | {"connection": "close"}, self.max_redirects > 0
        try:
            async with self._new_pool(allows, for_callers=self.for_callers) as pool:
                return await self._exchange(pool, method, target, headers, content, skips_redirects=skips)
        except AddressRefused:
            # An absent name and an internal name get the same message, so that no caller can find out which names
            # exist inside.
            raise InvalidInput("the URL's host has no public address") from None
