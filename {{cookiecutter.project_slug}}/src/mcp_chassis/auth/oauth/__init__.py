"""OAuth 2.1 access tokens: this server as the resource server of an authorization server."""

from typing import TYPE_CHECKING, Any

from ...rooms import Finding, Room
from .exchange import TokenExchange, on_behalf_of
from .introspection import IntrospectionVerifier, KeyForm
from .jwks import IssuerKeys
from .resource_metadata import ResourceMetadata
from .rules import Rules
from .settings import OAuthSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ...parts import Parts
    from ...service import Service
    from ...settings import Settings
    from ..verifier import Verifier

__all__ = ["ROOM", "on_behalf_of"]


class OAuth(Room):
    """Accepts access tokens, and serves the metadata that leads clients to the issuer."""

    settings = OAuthSettings

    def authenticates(self, settings: "Settings") -> bool:
        return settings.room(OAuthSettings).auth_mode == "oauth"

    def assemble(self, parts: "Parts") -> None:
        own = parts.settings.room(OAuthSettings)
        rules = own.rules_of(parts.settings.resource_url)
        if rules is None:
            return
        parts.verifiers += _verifiers(parts, own, rules)
        parts.asked_for = rules.asked_for
        endpoint = parts.settings.mcp_endpoint
        base = parts.settings.resource_url.removesuffix(endpoint)
        metadata = ResourceMetadata(base, endpoint, rules.issuer, lambda: map(rules.asked_for, parts.base_scopes))
        parts.challenge += f', resource_metadata="{metadata.url}"'
        parts.base_scopes = frozenset(own.oauth_base_scopes)
        parts.lists_all = frozenset({"oauth"}) if own.oauth_list_all else frozenset()
        parts.routes += metadata.routes()
        parts.public |= set(metadata.paths)

    def add_commands(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        from .token_report import add_option  # noqa: PLC0415

        add_option(commands.choices["check"])

    def findings(self, service: "Service", settings: "Settings") -> "Iterator[Finding]":
        """Report what is expected of tokens, how the issuer is reached, and the scopes of a first login."""
        from ...service import unchecked_server  # noqa: PLC0415
        from .token_report import setup  # noqa: PLC0415

        own = settings.room(OAuthSettings)
        rules = own.rules_of(settings.resource_url)
        if rules is None:
            return
        yield from setup(own, rules)
        asked = map(rules.asked_for, own.oauth_base_scopes or sorted(unchecked_server(service).access.base_scopes))
        lists = "everything" if own.oauth_list_all else "what the caller may use"
        yield Finding("OK", "oauth", f"a first login asks for {' '.join(asked) or 'no scope'}; lists hold {lists}")


def _verifiers(parts: "Parts", own: OAuthSettings, rules: Rules) -> "list[Verifier]":
    from .jwt_verifier import JwtVerifier  # noqa: PLC0415  (with PyJWT, only where it is used)

    reach = own.reach
    keys = IssuerKeys(rules.issuer, reach, url=own.oauth_jwks_url)
    secret = own.oauth_client_secret.get_secret_value() if own.oauth_client_secret is not None else ""
    client: dict[str, Any] = {"client_id": own.oauth_client_id or "", "client_secret": secret}
    exchange = None
    if own.oauth_token_url is not None:
        exchange = TokenExchange(url=own.oauth_token_url, **client, fetcher=reach.fetcher(own.oauth_token_url))
    verifiers: list[Verifier] = [JwtVerifier(rules=rules, exchange=exchange, keys=keys)]
    if own.oauth_introspection_url is not None:
        api_key = parts.settings.api_key.get_secret_value() if parts.settings.api_key is not None else ""
        verifiers.append(
            IntrospectionVerifier(
                url=own.oauth_introspection_url,
                rules=rules,
                exchange=exchange,
                **client,
                fetcher=reach.fetcher(own.oauth_introspection_url),
                recheck=own.oauth_recheck_seconds,
                may_be_key=KeyForm(api_key, parts.keys.records).matches,
            )
        )
    return verifiers


ROOM = OAuth()
