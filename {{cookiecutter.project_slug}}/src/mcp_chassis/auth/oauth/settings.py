"""The settings of OAuth and their rules."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from ...http.origins import is_loopback, is_plain_port, shown
from ...settings.fields import Networks, RoomSettings, SettingsFields, parts
from ...sinks.errors import ConfigurationError
from ..principal import SCOPE_CHARACTER
from . import rules
from .profiles import PROFILES, Profile, Provider
from .reach import Reach

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
            raise ValueError(f"{shown(name)!r} is not `name` or `name:claim`, such as tenant:tid,email,groups")
    return tuple(names.items())


def _scopes(value: Any) -> Any:
    """Read scopes that are separated by commas or spaces."""
    if not isinstance(value, str):
        return value
    names = tuple(value.replace(",", " ").split())
    if wrong := [shown(name) for name in names if not re.fullmatch(f"{SCOPE_CHARACTER}{{1,128}}", name)]:
        raise ValueError(f"{wrong[0]!r} cannot be a scope. Write them as your tools do, such as notes:read,notes:write")
    return names


def _text_for(read: Callable[[str], Any]) -> AfterValidator:
    """Return what leaves a text as it is, if it can be read."""

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


class OAuthSettings(RoomSettings):
    """Which authorization server is trusted, and for what. Where a profile has a default, None stands for it."""

    auth_mode: Literal["api-key", "oauth"] = "api-key"
    oauth_provider: Provider = "generic"
    oauth_issuer: str | None = None
    oauth_audience: str | None = None
    oauth_audience_claims: Annotated[str, _text_for(rules.audience_claims)] | None = None
    oauth_allowed_clients: Annotated[tuple[str, ...], NoDecode, BeforeValidator(parts)] = ()
    oauth_required_claims: Annotated[str, _text_for(rules.required_claims)] | None = None
    oauth_subject_claims: Annotated[str, _text_for(rules.claims_in)] | None = None
    oauth_scope_claims: Annotated[str, _text_for(rules.scope_claims)] | None = None
    oauth_scope_map: Annotated[str, _text_for(rules.scope_map)] | None = None
    oauth_scope_prefix: Annotated[str, Field(pattern=rf"^{SCOPE_CHARACTER}+$")] | None = None
    oauth_jwks_url: str | None = None
    oauth_ca_file: Path | None = None
    oauth_proxy: SecretStr | None = None
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

    @property
    def profile(self) -> Profile:
        """What is known of the provider."""
        return PROFILES[self.oauth_provider]

    def effective(self, name: str) -> str:
        """Return a setting that the profile has a default for, by its name without `oauth_`."""
        given: str | None = getattr(self, f"oauth_{name}")
        return str(getattr(self.profile, name)) if given is None else given

    def rules_of(self, resource_url: str) -> rules.Rules | None:
        """Return what a token for this server must say; None if no tokens are accepted."""
        if self.auth_mode != "oauth" or self.oauth_issuer is None:
            return None
        audience = self.oauth_audience or resource_url
        return rules.Rules(
            issuer=self.oauth_issuer,
            audience=audience,
            audience_claims=rules.audience_claims(self.effective("audience_claims")),
            clients=frozenset(self.oauth_allowed_clients),
            required=rules.required_claims(required) if (required := self.effective("required_claims")) else {},
            subject_claims=rules.claims_in(self.effective("subject_claims")),
            scope_claims=rules.scope_claims(self.effective("scope_claims")),
            scope_map=rules.scope_map(self.oauth_scope_map) if self.oauth_scope_map else {},
            scope_prefix=self.effective("scope_prefix").replace("{audience}", audience),
            shown=dict(self.oauth_claims),
            max_lifetime=self.oauth_max_token_lifetime,
        )

    @property
    def reach(self) -> Reach:
        """How the authorization server is reached."""
        proxy = self.oauth_proxy.get_secret_value() if self.oauth_proxy is not None else None
        return Reach(networks=self.oauth_networks, ca_file=self.oauth_ca_file, proxy=proxy)

    def problems(self, settings: SettingsFields) -> list[str]:
        """Explain step by step what an authorization server needs."""
        if not settings.enable_auth:
            return []
        if self.auth_mode != "oauth":
            return [
                f"{name.upper()}: has no effect while AUTH_MODE is {self.auth_mode}. Set AUTH_MODE=oauth."
                for name, value in self
                if name.startswith("oauth_") and isinstance(value, str | SecretStr) and value != "generic"
            ]
        problems = [*self._url_problems(settings), *self._client_problems()]
        if self.oauth_issuer is not None and not problems:
            problems += self._profile_problems(self.oauth_issuer)
        return problems

    def _url_problems(self, settings: SettingsFields) -> Iterator[str]:
        if self.oauth_issuer is None:
            yield "OAUTH_ISSUER: is missing while AUTH_MODE is oauth. Set it to the URL of your authorization server."
        for name in ("oauth_issuer", "oauth_jwks_url", *_ENDPOINTS):
            url = getattr(self, name)
            if url is not None and (reason := self._unsafe_url(url, settings)):
                yield f"{name.upper()}: {reason}"
        if "/.well-known/" in (self.oauth_issuer or ""):
            yield "OAUTH_ISSUER: is the URL of a document. Leave out the part from /.well-known/ on."

    def _client_problems(self) -> Iterator[str]:
        client = ("oauth_client_id", "oauth_client_secret")
        needed = client if self.oauth_token_url is not None else ("oauth_introspection_url", *client)
        if any(getattr(self, name) is not None for name in (*_ENDPOINTS, *client)):
            for name in needed:
                if getattr(self, name) is None:
                    yield (
                        f"{name.upper()}: is missing. OAUTH_INTROSPECTION_URL (tokens that are not JWTs) and "
                        "OAUTH_TOKEN_URL (acting for callers) need OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET. "
                        "Set what belongs together, or none."
                    )

    def _profile_problems(self, issuer: str) -> Iterator[str]:
        """Explain what contradicts the provider, accepts tokens of other servers, or keeps it from being reached."""
        profile, claims = self.profile, rules.audience_claims(self.effective("audience_claims"))
        if not re.fullmatch(profile.issuer_path, urlsplit(issuer).path):
            yield f"OAUTH_ISSUER: is not one of {self.oauth_provider}. Set it to {profile.issuer_advice}."
        for name, reason in profile.needed.items():
            if not getattr(self, name):
                yield f"{name.upper()}: is needed with OAUTH_PROVIDER={self.oauth_provider}. Set it to {reason}."
        for name, reason in profile.useless.items():
            if getattr(self, name) is not None:
                yield f"{name.upper()}: cannot be used with OAUTH_PROVIDER={self.oauth_provider}: {reason}. Remove it."
        if claims != ("aud",) and not self.oauth_allowed_clients:
            yield (
                f"OAUTH_ALLOWED_CLIENTS: is needed where OAUTH_AUDIENCE_CLAIMS is {','.join(claims)}, as a token may "
                "then be meant for any server of the issuer. List the IDs of the clients that may call this one."
            )
        if claims[0] != "aud" and not self.effective("required_claims"):
            yield (
                f"OAUTH_REQUIRED_CLAIMS: is needed where {claims[0]} decides in place of aud, or ID tokens would pass. "
                "Name what only access tokens have, such as typ=Bearer or token_use=access."
            )
        try:
            self.reach.fetcher(issuer)
        except ConfigurationError as error:
            yield f"OAUTH_CA_FILE or OAUTH_PROXY: {error}. Without them, SSL_CERT_FILE and HTTPS_PROXY count."

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
        has_more = parts.username is not None or (parts.query and url != self.oauth_jwks_url) or parts.fragment
        if not host or has_more or not is_plain:
            return "must be https://host/path, without a user name, a query, a fragment or zeros in front of a port."
        return None
