"""The settings of OAuth and their rules."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from ...http.origins import is_loopback, is_plain_port
from ...settings.fields import Networks, RoomSettings, SettingsFields, parts
from ..principal import SCOPE_CHARACTER

_MAX_CLAIMS = 32
_ENDPOINTS = ("oauth_introspection_url", "oauth_token_url")


def _claims(value: Any) -> Any:
    """Read `tenant:tid,email`: claims that tools may see, each with the name it gets or by its own."""
    if not isinstance(value, str):
        return value
    entries = [entry.partition(":") for entry in parts(value)]
    names = {name.strip(): (claim if colon else name).strip() for name, colon, claim in entries}
    if len(names) < len(entries) or len(names) > _MAX_CLAIMS:
        raise ValueError(f"names a claim twice, or more than {_MAX_CLAIMS}")
    for name, claim in names.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name) or not claim or claim.startswith("//"):
            raise ValueError(f"{name!r} is not `name` or `name:claim`, such as tenant:tid,email,groups")
    return tuple(names.items())


def _scopes(value: Any) -> Any:
    """Read scopes that are separated by commas or spaces."""
    if not isinstance(value, str):
        return value
    names = tuple(value.replace(",", " ").split())
    if wrong := [name for name in names if not re.fullmatch(f"{SCOPE_CHARACTER}{{1,128}}", name)]:
        raise ValueError(f"{wrong[0]!r} cannot be a scope. Write them as your tools do, such as notes:read,notes:write")
    return names


class OAuthSettings(RoomSettings):
    """Which authorization server is trusted, and for what."""

    auth_mode: Literal["api-key", "oauth"] = "api-key"
    oauth_issuer: str | None = None
    oauth_audience: str | None = None
    oauth_networks: Networks = ()
    oauth_allow_http_issuer: bool = False
    oauth_max_token_lifetime: Annotated[int, Field(ge=60, le=31_536_000)] = 86_400
    oauth_claims: Annotated[tuple[tuple[str, str], ...], NoDecode, BeforeValidator(_claims)] = ()
    oauth_base_scopes: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_scopes)] = ()
    oauth_list_all: bool = True
    oauth_introspection_url: str | None = None
    oauth_recheck_seconds: Annotated[int, Field(ge=1, le=30)] = 1
    oauth_token_url: str | None = None
    oauth_client_id: str | None = None
    oauth_client_secret: SecretStr | None = None

    def problems(self, settings: SettingsFields) -> list[str]:
        """Explain step by step what an authorization server needs."""
        if not settings.enable_auth:
            return []
        oauth = {name: value for name, value in self if name.startswith("oauth_")}
        if self.auth_mode != "oauth":
            given = [name.upper() for name, value in oauth.items() if isinstance(value, str | SecretStr)]
            return [
                f"{name}: has no effect while AUTH_MODE is {self.auth_mode}. Set AUTH_MODE=oauth." for name in given
            ]
        problems = []
        if self.oauth_issuer is None:
            problems.append(
                "OAUTH_ISSUER: is missing while AUTH_MODE is oauth. Set it to the URL of your authorization server."
            )
        for name in ("oauth_issuer", *_ENDPOINTS):
            if oauth[name] is not None and (reason := self._unsafe_url(oauth[name], settings)):
                problems.append(f"{name.upper()}: {reason}")
        if "/.well-known/" in (self.oauth_issuer or ""):
            problems.append("OAUTH_ISSUER: is the URL of a document. Leave out the part from /.well-known/ on.")
        client = ("oauth_client_id", "oauth_client_secret")
        needed = client if self.oauth_token_url is not None else ("oauth_introspection_url", *client)
        if any(oauth[name] is not None for name in (*_ENDPOINTS, *client)):
            problems += [
                f"{name.upper()}: is missing. OAUTH_INTROSPECTION_URL (tokens that are not JWTs) and OAUTH_TOKEN_URL "
                "(acting for callers) need OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET. Set what belongs together, or none."
                for name in needed
                if oauth[name] is None
            ]
        return problems

    def _unsafe_url(self, url: str, settings: SettingsFields) -> str | None:
        """Return what keeps a URL of the authorization server from being used (RFC 8414, section 2)."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            return "is not a URL. Write https://host/path."
        local = self.oauth_allow_http_issuer and settings.environment == "development" and is_loopback(host)
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            return (
                "must start with https://. For an issuer on this machine set OAUTH_ALLOW_HTTP_ISSUER=true "
                "with ENVIRONMENT=development."
            )
        is_plain = url.isprintable() and is_plain_port(parts.netloc)
        if not host or parts.username is not None or parts.query or parts.fragment or not is_plain:
            return "must be https://host/path, without a user name, a query, a fragment or zeros in front of a port."
        return None
