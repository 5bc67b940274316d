"""The signing keys of one issuer: found through its metadata, cached, and fetched again at most every 30 seconds."""

import base64
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import anyio
import structlog

from ...sinks.errors import InvalidInput, UpstreamError
from ...sinks.fetch import SafeFetcher
from ...sinks.http import Fetched
from ..verifier import Unavailable
from .reach import TIMEOUT, Reach

log = structlog.get_logger("auth")

_FRESH = 600.0  # seconds that fetched keys are used without asking again
_STALE = 86_400.0  # seconds that old keys are still used while the issuer does not answer
_COOL_DOWN = 30.0  # seconds between two fetches, whatever tokens claim


class IssuerUnavailable(Unavailable):
    """The issuer does not answer, so no token can be judged now."""


class IssuerKeys:
    """Looks up signing keys by `kid`.

    Only URLs from the settings and the configured issuer's own metadata are fetched, never one from a token. `url` is
    that of the keys, where metadata does not tell.
    """

    def __init__(self, issuer: str, reach: Reach = Reach(), *, url: str | None = None) -> None:  # noqa: B008  (frozen)
        self._issuer = issuer
        self._url = url
        self._fetcher = reach.fetcher(url or issuer)
        self._keys: list[dict[str, Any]] = []
        self._fetched_at = self._tried_at = -math.inf
        self._lock = anyio.Lock()

    async def key(self, kid: str | None) -> dict[str, Any] | None:
        """Return the JWK with that `kid`, the only key if the token names none, or None.

        `IssuerUnavailable`: there are no usable keys at all.
        """
        found = key_of(kid, self._keys)
        if found is not None and self._lock.locked() and self._age() <= _STALE:
            return found  # a fetch is under way: an issuer that hangs must not delay all callers
        if found is None or self._age() > _FRESH:
            async with self._lock:  # of many callers that miss one key, one asks; the others find the cool-down
                await self._refresh()
            found = key_of(kid, self._keys)
        if self._age() > _STALE:
            raise IssuerUnavailable
        return found

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    async def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._tried_at < _COOL_DOWN:
            return
        self._tried_at = now
        try:
            with anyio.fail_after(2 * TIMEOUT):
                url = self._url or (await _first_metadata(self._fetcher, self._issuer))["jwks_uri"]
                self._keys = signing_keys(await _get(self._fetcher, url))
        except (TimeoutError, ValueError, UpstreamError) as error:
            log.error("the issuer's keys could not be fetched", issuer=self._issuer, cause=cause_of(error))
        else:
            self._fetched_at = now


def signing_keys(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the keys of a JWK Set (RFC 7517) that can verify signatures."""
    keys = document.get("keys")
    if not isinstance(keys, list):
        raise ValueError("no key set")
    # A key with `d` is private: anyone who reads it can sign.
    return [key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig" and "d" not in key]


def key_of(kid: object, keys: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the key with that `kid`, the only key if the token names none, or None."""
    if not isinstance(kid, str):
        return keys[0] if len(keys) == 1 else None
    return next((key for key in keys if key.get("kid") == kid), None)


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
        is_safe = isinstance(uri, str) and urlsplit(uri).scheme in {"https", parts.scheme}
        if is_safe and metadata.get("issuer") == issuer:
            return metadata
    raise ValueError("no usable metadata")


async def _get(fetcher: SafeFetcher, url: str) -> dict[str, Any]:
    return json_object(await fetcher.get(url, headers={"accept": "application/json"}))


@dataclass(kw_only=True, eq=False, repr=False)
class IssuerClient:
    """Asks one endpoint of the authorization server, as its client."""

    url: str  # from the settings only
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
    """Return the JSON object in an issuer's answer; a `ValueError` says why there is none."""
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
