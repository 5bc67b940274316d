"""OAuth 2.1 access tokens: this server as the resource server of an authorization server."""

from typing import TYPE_CHECKING, Any

from ...rooms import Room
from .exchange import TokenExchange, on_behalf_of
from .introspection import IntrospectionVerifier
from .jwks import IssuerKeys, issuer_fetcher
from .key_form import KeyForm
from .resource_metadata import ResourceMetadata
from .settings import OAuthSettings

if TYPE_CHECKING:
    from ...parts import Parts
    from ...settings import Settings
    from ..verifier import Verifier

__all__ = ["ROOM", "on_behalf_of"]


class OAuth(Room):
    """Accepts access tokens, and serves the metadata that leads clients to the issuer."""

    settings = OAuthSettings

    def authenticates(self, settings: "Settings") -> bool:
        """Whether tokens are accepted."""
        return settings.room(OAuthSettings).auth_mode == "oauth"

    def assemble(self, parts: "Parts") -> None:
        """Add the verifiers, the metadata, and its URL in the challenge."""
        own = parts.settings.room(OAuthSettings)
        if own.auth_mode != "oauth" or own.oauth_issuer is None:
            return
        parts.verifiers += _verifiers(parts, own, own.oauth_issuer)
        endpoint = parts.settings.mcp_endpoint
        base = parts.settings.resource_url.removesuffix(endpoint)
        metadata = ResourceMetadata(base, endpoint, own.oauth_issuer, lambda: parts.scopes)
        parts.challenge += f', resource_metadata="{metadata.url}"'
        parts.routes += metadata.routes()
        parts.public |= set(metadata.paths)


def _verifiers(parts: "Parts", own: OAuthSettings, issuer: str) -> "list[Verifier]":
    from .jwt_verifier import JwtVerifier  # noqa: PLC0415  (with PyJWT, only where it is used)

    audience = own.oauth_audience or parts.settings.resource_url
    keys = IssuerKeys(issuer, networks=own.oauth_networks)
    secret = own.oauth_client_secret.get_secret_value() if own.oauth_client_secret is not None else ""
    client: dict[str, Any] = {"client_id": own.oauth_client_id or "", "client_secret": secret}
    exchange = None
    if own.oauth_token_url is not None:
        fetcher = issuer_fetcher(own.oauth_token_url, own.oauth_networks)
        exchange = TokenExchange(url=own.oauth_token_url, **client, fetcher=fetcher)
    shown = dict(own.oauth_claims)
    common: dict[str, Any] = {"issuer": issuer, "audience": audience, "shown": shown, "exchange": exchange}
    verifiers: list[Verifier] = [JwtVerifier(**common, keys=keys, max_lifetime=own.oauth_max_token_lifetime)]
    if own.oauth_introspection_url is not None:
        api_key = parts.settings.api_key.get_secret_value() if parts.settings.api_key is not None else ""
        verifiers.append(
            IntrospectionVerifier(
                url=own.oauth_introspection_url,
                **common,
                **client,
                fetcher=issuer_fetcher(own.oauth_introspection_url, own.oauth_networks),
                may_be_key=KeyForm(api_key, parts.keys.records).matches,
            )
        )
    return verifiers


ROOM = OAuth()
