"""The signing keys of one issuer: found through its metadata, cached, and fetched again at most every 30 seconds."""

import base64
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import anyio
import structlog

from ...sinks.addresses import IPNetwork
from ...sinks.errors import InvalidInput, UpstreamError
from ...sinks.fetch import SafeFetcher
from ...sinks.http import Fetched
from ..verifier import Unavailable

log = structlog.get_logger("auth")

_FRESH = 600.0  # seconds that fetched keys are used without asking again
_STALE = 86_400.0  # seconds that old keys are still used while the issuer does not answer
_COOL_DOWN = 30.0  # seconds between two fetches, whatever tokens claim
_TIMEOUT = 5.0  # seconds for one request
_MAX_BYTES = 262_144  # of one document
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class IssuerUnavailable(Unavailable):
    """The issuer does not answer, so no token can be judged now."""


class IssuerKeys:
    """Looks up signing keys by `kid`.

    Only URLs from the configured issuer's own metadata are fetched, never one from a token.

    Args:
        issuer: the issuer identifier (RFC 8414, section 2). Settings allow http on this machine only, for development.
        networks: internal networks in which the issuer may be.
    """

    def __init__(self, issuer: str, *, networks: Iterable[IPNetwork] = ()) -> None:
        self._issuer = issuer
        self._fetcher = issuer_fetcher(issuer, networks)
        self._keys: list[dict[str, Any]] = []
        self._fetched_at = self._tried_at = -math.inf
        self._lock = anyio.Lock()

    async def key(self, kid: str | None) -> dict[str, Any] | None:
        """Return the JWK with that `kid`, the only key if the token names none, or None.

        Raises:
            IssuerUnavailable: if there are no usable keys at all.
        """
        found = self._find(kid)
        if found is not None and self._lock.locked() and self._age() <= _STALE:
            return found  # a fetch is under way: an issuer that hangs must not delay all callers
        if found is None or self._age() > _FRESH:
            async with self._lock:  # of many callers that miss one key, one asks; the others find the cool-down
                await self._refresh()
            found = self._find(kid)
        if self._age() > _STALE:
            raise IssuerUnavailable
        return found

    def _find(self, kid: str | None) -> dict[str, Any] | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.get("kid") == kid), None)

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    async def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._tried_at < _COOL_DOWN:
            return
        self._tried_at = now
        try:
            self._keys = await _fetch_keys(self._fetcher, self._issuer)
        except (TimeoutError, ValueError, UpstreamError) as error:
            log.error("the issuer's keys could not be fetched", issuer=self._issuer, cause=cause_of(error))
        else:
            self._fetched_at = now


def issuer_fetcher(url: str, networks: Iterable[IPNetwork]) -> SafeFetcher:
    """Return a fetcher for an issuer: https only, unless `url` is http, which settings allow on this machine."""
    parts = urlsplit(url)
    local = parts.scheme == "http"
    return SafeFetcher(
        schemes=("https", "http") if local else ("https",),
        ports={443, parts.port or (80 if local else 443)},
        networks=(*networks, *(_LOOPBACK if local else ())),
        max_bytes=_MAX_BYTES,
        max_redirects=0,  # only the settings choose where keys come from
        timeout=_TIMEOUT,
        for_callers=False,
    )


async def _fetch_keys(fetcher: SafeFetcher, issuer: str) -> list[dict[str, Any]]:
    with anyio.fail_after(2 * _TIMEOUT):
        metadata = await _first_metadata(fetcher, issuer)
        document = await _get(fetcher, metadata["jwks_uri"])
    keys = document.get("keys")
    if not isinstance(keys, list):
        raise ValueError("no key set")
    # A key with `d` is private: anyone who reads it can sign.
    return [key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig" and "d" not in key]


async def _first_metadata(fetcher: SafeFetcher, issuer: str) -> dict[str, Any]:
    """Return the issuer's metadata (RFC 8414, section 3.1; OpenID Connect Discovery 1.0, section 4)."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    for url in (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    ):
        try:
            metadata = await _get(fetcher, url)
        except InvalidInput:
            raise  # its host is not allowed
        except ValueError:
            continue  # if it does not answer at all, neither would it for the second document
        # Mix-up defence (RFC 8414, section 3.3), and no way from https to http.
        uri = metadata.get("jwks_uri")
        if (
            metadata.get("issuer") == issuer
            and isinstance(uri, str)
            and urlsplit(uri).scheme in {"https", parts.scheme}
        ):
            return metadata
    raise ValueError("no usable metadata")


async def _get(fetcher: SafeFetcher, url: str) -> dict[str, Any]:
    return json_object(await fetcher.get(url, headers={"accept": "application/json"}))


@dataclass(kw_only=True, eq=False, repr=False)
class IssuerClient:
    """Asks one endpoint of the authorization server, as its client.

    Args:
        url: the endpoint. It comes from the settings only.
        client_id: this server's client ID.
        client_secret: this server's client secret.
        fetcher: sends the requests.
    """

    url: str
    client_id: str
    client_secret: str
    fetcher: SafeFetcher

    async def _post(self, form: Mapping[str, str]) -> Fetched:
        # Both parts are form-encoded first (RFC 6749, section 2.3.1): a colon in an id would end it.
        user = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}".encode()
        headers = {
            "authorization": "Basic " + base64.b64encode(user).decode(),
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
        }
        return await self.fetcher.request("POST", self.url, headers=headers, content=urlencode(form).encode())


def json_object(answer: Fetched) -> dict[str, Any]:
    """Return the JSON object in an issuer's answer.

    Raises:
        ValueError: if there is none.
    """
    if answer.status != 200:
        raise ValueError(f"status {answer.status}")
    try:
        document = json.loads(answer.body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def cause_of(error: Exception) -> str:
    """Return the cause to log when an issuer failed. The text of a decoding error would quote its answer."""
    if isinstance(error, UpstreamError) and error.cause:
        return f"{error} [{error.cause}]"
    return type(error).__name__ if isinstance(error, TimeoutError | UnicodeError | json.JSONDecodeError) else str(error)
