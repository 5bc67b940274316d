"""The signing keys of one issuer: found through its metadata, cached, and fetched again with restraint."""

import json
import time
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import structlog

log = structlog.get_logger("auth")

_FRESH = 600.0  # seconds that fetched keys are used without asking again
_STALE = 86_400.0  # seconds that old keys are still used while the issuer does not answer
_COOL_DOWN = 30.0  # seconds between two fetches, whatever tokens claim
_TIMEOUT = 5.0  # seconds for one fetch
_LARGEST = 262_144  # bytes of one document


class IssuerUnavailable(Exception):
    """The issuer's keys are not known and cannot be fetched now. Nothing can be said of any token."""


class IssuerKeys:
    """Looks up signing keys by `kid`.

    Only what the configured issuer's own metadata names is fetched: nothing in a token ever leads to a request.

    Args:
        issuer: the issuer identifier (RFC 8414, section 2).
    """

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._keys: list[dict[str, Any]] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._lock = anyio.Lock()

    async def key(self, kid: str | None) -> dict[str, Any] | None:
        """Return the JWK with that `kid`, the only key if the token names none, or None.

        Raises:
            IssuerUnavailable: if there are no usable keys at all.
        """
        found = self._find(kid)
        if found is None or self._age() > _FRESH:
            async with self._lock:  # of many callers that miss one key, one asks
                found = self._find(kid)
                if found is None or self._age() > _FRESH:
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
        return float("inf") if self._fetched_at is None else time.monotonic() - self._fetched_at

    async def _refresh(self) -> None:
        now = time.monotonic()
        if self._tried_at is not None and now - self._tried_at < _COOL_DOWN:
            return
        self._tried_at = now
        try:
            self._keys = await _fetch_keys(self._issuer)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError) as error:
            log.error("the issuer's keys could not be fetched", issuer=self._issuer, cause=type(error).__name__)
        else:
            self._fetched_at = now


async def _fetch_keys(issuer: str) -> list[dict[str, Any]]:
    # Environment proxies and redirects would let somebody else choose where the keys come from.
    async with httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=_TIMEOUT) as client:
        with anyio.fail_after(2 * _TIMEOUT):
            metadata = await _first_metadata(client, issuer)
            document = await _get(client, metadata["jwks_uri"])
    keys = document.get("keys")
    if not isinstance(keys, list):
        raise ValueError("no key set")
    return [key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig"]


async def _first_metadata(client: httpx2.AsyncClient, issuer: str) -> dict[str, Any]:
    """Return the issuer's metadata (RFC 8414, section 3.1; OpenID Connect Discovery 1.0, section 4)."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    for url in (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    ):
        try:
            metadata = await _get(client, url)
        except (httpx2.HTTPStatusError, ValueError):
            continue
        # Mix-up defence (RFC 8414, section 3.3), and no way from https to http.
        uri = metadata.get("jwks_uri")
        if (
            metadata.get("issuer") == issuer
            and isinstance(uri, str)
            and urlsplit(uri).scheme in {"https", parts.scheme}
        ):
            return metadata
    raise ValueError("no usable metadata")


async def _get(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    async with client.stream("GET", url, headers={"accept": "application/json"}) as response:
        if response.status_code != httpx2.codes.OK:
            raise httpx2.HTTPStatusError("not found", request=response.request, response=response)
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _LARGEST:
                raise ValueError("document too large")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document
