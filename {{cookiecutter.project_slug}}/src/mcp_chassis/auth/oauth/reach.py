"""The way to the authorization server: through a proxy perhaps, and with certificates of an internal authority."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from ...sinks.addresses import IPNetwork
from ...sinks.fetch import SafeFetcher

TIMEOUT = 5.0  # seconds for one request
_MAX_BYTES = 262_144  # of one document
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How an issuer is reached, at all of its URLs."""

    networks: Sequence[IPNetwork] = ()  # internal networks in which it may be
    ca_file: Path | None = None  # certificate authorities that are trusted instead of the system's
    proxy: str | None = field(default=None, repr=False)
    """URL of an HTTP proxy, which resolves the names. None: that of `HTTPS_PROXY`, unless `NO_PROXY` has the host."""

    def fetcher(self, url: str) -> SafeFetcher:
        """Return a fetcher for a URL of the issuer: https only, unless it is http, which is allowed on this machine."""
        parts = urlsplit(url)
        local = parts.scheme == "http"
        return SafeFetcher(
            schemes=("https", "http") if local else ("https",),
            ports={443, parts.port or (80 if local else 443)},
            networks=(*self.networks, *(_LOOPBACK if local else ())),
            proxy=None if local else self.proxy_for(parts.netloc),
            ca_file=self.ca_file,
            max_bytes=_MAX_BYTES,
            max_redirects=0,  # only the settings choose where keys come from
            timeout=TIMEOUT,
            for_callers=False,
        )

    def proxy_for(self, host: str) -> str | None:
        """Return the URL of the proxy for https to a host, whose port may follow it."""
        found = self.proxy or getproxies_environment().get("https")
        if not found or (self.proxy is None and proxy_bypass(host)):
            return None
        return found if "://" in found else f"http://{found}"
