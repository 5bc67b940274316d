"""Identity providers, and what their access tokens look like: defaults of the settings, and what they must be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Provider = Literal["entra", "auth0", "keycloak", "okta", "cognito", "google", "generic"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One provider. The members that settings have as well are what those are by default."""

    scope_claims: str = "scope,scp"
    scope_prefix: str = ""  # `{audience}` in it stands for the audience
    subject_claims: str = "sub"
    audience_claims: str = "aud"
    required_claims: str = ""
    issuer_path: str = ".*"  # pattern of the path that ends an issuer URL
    issuer_advice: str = ""  # what to set OAUTH_ISSUER to
    needed: Mapping[str, str] = field(default_factory=dict)  # settings that must not be empty, each with the reason
    useless: Mapping[str, str] = field(default_factory=dict)  # settings that cannot work here, each with the reason
    # What to do about a token that is no JWT:
    opaque: str = "Have the provider issue JWTs, or set OAUTH_INTROSPECTION_URL."


_GUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

PROFILES: Mapping[Provider, Profile] = MappingProxyType(
    {
        "generic": Profile(),
        # learn.microsoft.com/entra/identity-platform/access-token-claims-reference
        "entra": Profile(
            # A user's roles would widen what they have consented to for this client. A machine's token has no `scp`.
            scope_claims="scp|roles",
            scope_prefix="api://{audience}/",
            subject_claims="oid",
            required_claims="ver=2.0",
            issuer_path=rf"/{_GUID}/v2\.0/?",
            issuer_advice="https://login.microsoftonline.com/<tenant id>/v2.0, with the id of one tenant. Tokens of "
            "version 1 (sts.windows.net) are not accepted: set the version to 2 in the manifest",
            needed={"oauth_audience": "the Application (client) ID of this server's app registration"},
            opaque="Ask for a scope of this server's app registration: tokens for Microsoft Graph are for Graph alone.",
        ),
        # auth0.com/docs/secure/tokens/access-tokens/access-token-profiles
        "auth0": Profile(
            scope_claims="scope|permissions",
            issuer_path="/",
            issuer_advice="https://<tenant>.auth0.com/, with the slash at the end",
            opaque="The client named no API. Switch on the Resource Parameter Compatibility Profile of the tenant.",
        ),
        # keycloak.org/securing-apps/mcp-authz-server
        "keycloak": Profile(
            scope_claims="scope,realm_access.roles",
            subject_claims="sub,client_id",
            required_claims="typ=Bearer",
            issuer_path=".*/realms/[^/]+",
            issuer_advice="https://<host>/realms/<realm>, without a slash at the end",
        ),
        # developer.okta.com/docs/reference/api/oidc (access token payload)
        "okta": Profile(
            scope_claims="scp",
            subject_claims="uid,sub",
            issuer_path="/oauth2/[^/]+",
            issuer_advice="https://<domain>/oauth2/<id> of a custom authorization server. Tokens of the org "
            "authorization server are for Okta's own API",
        ),
        # docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html
        "cognito": Profile(
            scope_claims="scope",
            scope_prefix="{audience}/",
            audience_claims="aud,client_id",
            required_claims="token_use=access",
            issuer_path=r"/[a-z0-9-]+_[A-Za-z0-9]+",
            issuer_advice="https://cognito-idp.<region>.amazonaws.com/<user pool id>, not the domain of the login page",
        ),
        # cloud.google.com/docs/authentication/token-types
        "google": Profile(
            scope_claims="email",
            required_claims="email_verified=true",
            issuer_path="",
            issuer_advice="https://accounts.google.com",
            needed={
                "oauth_allowed_clients": "the unique IDs of the service accounts that may call: any Google account can "
                "get an ID token for any audience from a service account of its own"
            },
            useless={
                "oauth_introspection_url": "Google has no introspection endpoint (RFC 7662); tokeninfo is none",
                "oauth_token_url": "Google exchanges no tokens for other services (RFC 8693)",
            },
            opaque="Google's access tokens are opaque and for Google's own APIs. Service accounts can send ID tokens; "
            "users need an authorization server that logs them in with Google.",
        ),
    }
)
