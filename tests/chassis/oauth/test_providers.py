"""Access tokens as identity providers document them: whom they stand for, and by which rule others are refused.

Discovery and keys are served on a real socket in the providers' way: openid-configuration only, keys without `alg`.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from mcp_chassis import Service, cli, get_principal, tool
from mcp_chassis.auth.oauth.profiles import PROFILES
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.documents import DOCUMENTS
from ..support.issuer import KEYS, METADATA, Issuer, oauth, running_issuer
from ..support.running import RunningServer, running_server
from .running import AuthorizationServer

RESOURCE = "<this server>"  # replaced by the URL of the running server
ISSUER = "<issuer>"
TENANT, OTHER_TENANT = "5d2cbd5c-2a56-4f6a-a5ca-2dfd1a3f3fbb", "8f4b1c3e-7d05-4a8e-9a51-61a1c3a4d9aa"
APP, OID = "0f5dd2a1-3e9b-4cf0-8c58-3b4a8f0e7d11", "2b7a8f6e-91aa-4c39-a4a6-7cf3a7d1c5f0"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
Claims = dict[str, Any]


@tool(scopes=["notes:read"], read_only=True)
def who_am_i() -> str:
    """Say who calls."""
    return f"{get_principal().id}: {' '.join(sorted(get_principal().scopes))}"


@tool(scopes=["notes:write"], read_only=True)
def write() -> str:
    """Do what needs another scope."""
    return "written"


@dataclass
class Provider:
    """One provider: what is set for it, tokens of it, and how it calls what a client asks for.

    `good` maps tokens to the caller and the scopes that they stand for, `bad` maps tokens to the reason of the refusal.
    """

    path: str
    settings: dict[str, str]
    user: Claims
    machine: Claims
    good: dict[str, tuple[Claims, str]]
    bad: dict[str, tuple[Claims, str]]
    no_role: Claims
    asked_for: str
    header: dict[str, Any] = field(default_factory=lambda: {"typ": "JWT"})


def entra() -> Provider:
    """learn.microsoft.com/entra/identity-platform/access-token-claims-reference, version 2.0."""
    common = {
        "aud": APP,
        "azp": "9a7e",
        "azpacr": "0",
        "oid": OID,
        "tid": TENANT,
        "uti": "x",
        "rh": "0.A",
        "ver": "2.0",
    }
    user = common | {"scp": "notes:read", "sub": "pairwise", "name": "Ada", "preferred_username": "ada@example.com"}
    machine = common | {"azpacr": "1", "roles": ["notes:read"], "sub": OID, "idtyp": "app"}
    version_1 = user | {
        "iss": f"https://sts.windows.net/{TENANT}/",
        "aud": f"api://{APP}",
        "ver": "1.0",
        "appid": "9a7e",
    }
    return Provider(
        path=f"/{TENANT}/v2.0",
        settings={"oauth_audience": APP},
        user=user,
        machine=machine,
        good={
            "user": (user, f"{OID}: notes:read"),
            "machine": (machine, f"{OID}: notes:read"),
            "user with more roles than consent": (user | {"roles": ["notes:write"]}, f"{OID}: notes:read"),
        },
        bad={
            "version 1": (version_1, "issuer"),
            "version 1 in version 2": (user | {"ver": "1.0"}, "required_claim"),
            "another tenant": (user | {"iss": ISSUER.replace(">", "2>"), "tid": OTHER_TENANT}, "issuer"),
            "Microsoft Graph": (user | {"aud": "00000003-0000-0000-c000-000000000000"}, "audience"),
            "its identifier URI": (user | {"aud": f"api://{APP}"}, "audience"),
            "no object id": (user | {"oid": None}, "subject"),
        },
        no_role=machine | {"roles": None},
        asked_for=f"api://{APP}/notes:read",
    )


def auth0() -> Provider:
    """auth0.com/docs/secure/tokens/access-tokens/access-token-profiles, with RBAC and permissions in the token."""
    user = {
        "aud": [RESOURCE, f"{ISSUER}userinfo"],
        "sub": "auth0|66a1",
        "azp": "client",
        "scope": "openid notes:read",
        "permissions": ["notes:read", "notes:write"],
    }
    machine = {
        "aud": RESOURCE,
        "sub": "ci@clients",
        "azp": "ci",
        "gty": "client-credentials",
        "permissions": ["notes:read"],
    }
    return Provider(
        path="/",
        settings={},
        user=user,
        machine=machine,
        good={
            "user": (user, "auth0|66a1: notes:read openid"),
            "machine": (machine, "ci@clients: notes:read"),
            "machine with a scope": (machine | {"scope": "notes:read"}, "ci@clients: notes:read"),
        },
        bad={
            "another tenant": (user | {"iss": "https://other.auth0.com/"}, "issuer"),
            "issuer without its slash": (user | {"iss": ISSUER.replace(">", "-without-slash>")}, "issuer"),
            "userinfo only": (user | {"aud": f"{ISSUER}userinfo"}, "audience"),
        },
        no_role=machine | {"permissions": []},
        asked_for="notes:read",
    )


def keycloak() -> Provider:
    """Of Keycloak 26: `sub` comes with the client scope `basic`, `client_id` with `service_account`."""
    roles = {"roles": ["default-roles-company", "offline_access", "uma_authorization"]}
    common = {
        "typ": "Bearer",
        "acr": "1",
        "allowed-origins": ["/*"],
        "resource_access": {"account": {"roles": ["view"]}},
    }
    user = common | {
        "aud": [RESOURCE, "account"],
        "sub": OID,
        "azp": "inspector",
        "sid": "s",
        "realm_access": roles,
        "scope": "profile notes:read",
        "preferred_username": "ada",
    }
    machine = common | {
        "aud": [RESOURCE, "account"],
        "azp": "ci",
        "client_id": "ci",
        "realm_access": {"roles": [*roles["roles"], "notes:read"]},
        "scope": "profile",
        "preferred_username": "service-account-ci",
    }
    return Provider(
        path="/realms/company",
        settings={},
        user=user,
        machine=machine,
        good={
            "user": (user, f"{OID}: default-roles-company notes:read offline_access profile uma_authorization"),
            "machine": (machine, "ci: default-roles-company notes:read offline_access profile uma_authorization"),
        },
        bad={
            "ID token": (user | {"typ": "ID", "aud": RESOURCE}, "required_claim"),
            "refresh token": (user | {"typ": "Refresh"}, "required_claim"),
            "another realm": (user | {"iss": ISSUER.replace(">", "2>")}, "issuer"),
            "no audience mapper": (user | {"aud": "account"}, "audience"),
            "no subject": (user | {"sub": None}, "subject"),
        },
        no_role=machine | {"realm_access": roles},
        asked_for="notes:read",
    )


def okta() -> Provider:
    """developer.okta.com/docs/reference/api/oidc: a custom authorization server."""
    user = {"ver": 1, "jti": "AT.1", "aud": RESOURCE, "cid": "0oa1", "uid": "00u1", "scp": ["openid", "notes:read"]}
    user |= {"sub": "ada@example.com", "auth_time": 1_700_000_000}
    machine = {"ver": 1, "jti": "AT.2", "aud": RESOURCE, "cid": "0oa2", "scp": ["notes:read"], "sub": "0oa2"}
    return Provider(
        path="/oauth2/aus1",
        settings={},
        user=user,
        machine=machine,
        good={"user": (user, "00u1: notes:read openid"), "machine": (machine, "0oa2: notes:read")},
        bad={
            "org authorization server": (user | {"iss": "https://company.okta.com"}, "issuer"),
            "another authorization server": (user | {"iss": ISSUER.replace(">", "2>")}, "issuer"),
            "the default audience": (user | {"aud": "api://default"}, "audience"),
        },
        no_role=machine | {"scp": ["other:read"]},
        asked_for="notes:read",
        header={"typ": None},
    )


def cognito() -> Provider:
    """docs.aws.amazon.com/cognito: access tokens have no `aud` unless the client sent `resource`."""
    user = {
        "sub": OID,
        "cognito:groups": ["staff"],
        "version": 2,
        "client_id": "web1",
        "origin_jti": "o",
        "token_use": "access",
        "scope": f"openid {RESOURCE}/notes:read",
        "username": "ada",
    }
    machine = {"sub": "ci1", "token_use": "access", "scope": f"{RESOURCE}/notes:read", "version": 2, "client_id": "ci1"}
    return Provider(
        path="/eu-central-1_Ab12Cd34",
        settings={"oauth_allowed_clients": "web1, ci1"},
        user=user,
        machine=machine,
        good={
            "user": (user, f"{OID}: notes:read openid"),
            "machine": (machine, "ci1: notes:read"),
            "bound to a resource": (user | {"aud": RESOURCE}, f"{OID}: notes:read openid"),
        },
        bad={
            "another client": (user | {"client_id": "web2"}, "client"),
            "no client": (user | {"client_id": None}, "audience"),
            "bound to another resource": (user | {"aud": "https://other.example.com"}, "audience"),
            "another user pool": (user | {"iss": ISSUER.replace(">", "2>")}, "issuer"),
            "ID token": ({"sub": OID, "aud": "web1", "token_use": "id", "email": "a@example.com"}, "audience"),
            "no access token": (user | {"token_use": "id"}, "required_claim"),
        },
        no_role=machine | {"scope": "https://other.example.com/notes:read"},
        asked_for=f"{RESOURCE}/notes:read",
        header={"typ": None},
    )


def google() -> Provider:
    """cloud.google.com/docs/authentication/token-types: ID tokens of service accounts."""
    email = "ci@project.iam.gserviceaccount.com"
    machine = {"aud": RESOURCE, "azp": "1097", "sub": "1097", "email": email, "email_verified": True}
    return Provider(
        path="",
        settings={"oauth_allowed_clients": "1097", "oauth_scope_map": f"{email}=notes:read"},
        user=machine,
        machine=machine,
        good={"machine": (machine, "1097: notes:read")},
        bad={
            "a service account of anyone": (machine | {"azp": "6666", "sub": "6666"}, "client"),
            "email that is not verified": (machine | {"email_verified": False}, "required_claim"),
            "no email in it": (machine | {"email": None, "email_verified": None}, "required_claim"),
            "ID token of a user": (machine | {"aud": "1.apps.googleusercontent.com"}, "audience"),
            "another issuer": (machine | {"iss": "https://securetoken.google.com/project"}, "issuer"),
        },
        no_role=machine | {"email": "other@project.iam.gserviceaccount.com"},
        asked_for="notes:read",
    )


PROVIDERS = {each.__name__: each() for each in (entra, auth0, keycloak, okta, cognito, google)}


@dataclass
class Setup:
    """A server, the issuer whose tokens it accepts, and the provider that both are like."""

    name: str
    provider: Provider
    issuer: Issuer
    server: RunningServer

    def token(self, claims: Claims) -> str:
        """Return a token with these claims, signed with the issuer's key."""
        now = int(time.time())
        whole = {"iss": ISSUER, "iat": now, "nbf": now, "exp": now + 3600, "jti": "j"} | claims
        present = {name: self._real(value) for name, value in whole.items() if value is not None}
        return jwt.encode(present, KEY, algorithm="RS256", headers=self.provider.header | {"kid": "rsa"})

    def call(self, token: str, name: str = "who_am_i") -> Any:
        return self.server.call(name, {}, headers={"Authorization": f"Bearer {token}"})

    def real(self, text: str) -> str:
        """Return a text with the URLs of this run."""
        return str(self._real(text))

    def _real(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._real(item) for item in value]
        if not isinstance(value, str):
            return value
        other = value.replace("<issuer2>", f"{self.issuer.url}2").replace("<issuer-without-slash>", self.issuer.origin)
        return other.replace(ISSUER, self.issuer.url).replace(RESOURCE, f"{self.server.url}/mcp")


@pytest.fixture(scope="module", params=PROVIDERS)
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    name = request.param
    provider = PROVIDERS[name]
    with running_issuer(provider.path) as issuer:
        document = issuer.documents.pop(METADATA + provider.path.rstrip("/"))
        issuer.documents[f"{provider.path.rstrip('/')}/.well-known/openid-configuration"] = document
        issuer.publish({**RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "rsa", "use": "sig"})
        mcp = GuardedServer("a-server", tools=[who_am_i, write], events=EventLog())
        with running_server(mcp, oauth_provider=name, **oauth(issuer.url), **provider.settings) as server:
            yield Setup(name, provider, issuer, server)


def test_tokens_of_users_and_machines_are_accepted_with_their_scopes(setup: Setup) -> None:
    for case, (claims, expected) in setup.provider.good.items():
        answer = setup.call(setup.token(claims))
        assert f"oauth:{expected}" in answer.text, case
        assert setup.call(setup.token(claims), "write").status_code == 403, case


def test_other_tokens_are_refused_by_the_rule_that_they_break(setup: Setup) -> None:
    for case, (claims, reason) in setup.provider.bad.items():
        answer = setup.call(setup.token(claims))
        found = setup.server.events("authentication_failed")[0]["details"]["reason"]
        assert (answer.status_code, found) == (401, reason), case


def test_a_caller_without_the_role_learns_what_to_ask_for(setup: Setup) -> None:
    answer = setup.call(setup.token(setup.provider.no_role))
    assert answer.status_code == 403
    needed = setup.real(setup.provider.asked_for)
    assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]
    metadata = setup.server.get("/.well-known/oauth-protected-resource").json()
    assert needed in metadata["scopes_supported"]


def test_a_token_that_is_no_signed_jwt_is_refused(setup: Setup) -> None:
    """Opaque ones, such as Google's, and encrypted ones, which Auth0 issues for APIs that ask for it."""
    for token in ("ya29.a0AfB_byC", "eyJhbGciOiJkaXIi.a.b.c.d"):
        assert setup.call(token).status_code == 401


@pytest.mark.parametrize("name", [name for name, each in PROVIDERS.items() if each.path.strip("/")])
def test_tokens_of_a_certified_authorization_server_in_the_providers_shape(
    authorization_server: AuthorizationServer, name: str
) -> None:
    """What it cannot make is tested above: issuers with a slash at the end or without a path, tokens without `aud`."""
    provider = PROVIDERS[name]
    issuer = authorization_server.issuer + provider.path
    mcp = GuardedServer("a-server", tools=[who_am_i, write], events=EventLog())
    authorization_server.shaped_token(provider.path, {})
    with running_server(mcp, oauth_provider=name, **oauth(issuer), **provider.settings) as server:

        def answer(claims: Claims) -> httpx2.Response:
            whole = {"aud": RESOURCE, "client_id": None, "scope": None} | claims
            text = json.dumps(whole).replace(ISSUER, issuer).replace(RESOURCE, f"{server.url}/mcp")
            token = authorization_server.shaped_token(provider.path, json.loads(text))
            return server.call("who_am_i", {}, headers={"Authorization": f"Bearer {token}"})

        for case, (claims, expected) in provider.good.items():
            assert f"oauth:{expected}" in answer(claims).text, case
        assert answer(provider.no_role).status_code == 403
        assert answer(provider.user | {"aud": "https://other.example.com"}).status_code == 401
        (event,) = server.events("authentication_failed")
    assert event["details"]["reason"] == "audience"


class Report:
    """Runs `check --token` with the settings of a running server."""

    def __init__(self, setup: Setup, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self._capsys = capsys
        self._setup = setup
        self._token, self._keys = directory / "token", directory / "keys"
        self._keys.write_text(json.dumps(setup.issuer.documents[KEYS]))
        self._service = Service(module=__name__, tools=(who_am_i, write))
        monkeypatch.chdir(directory)
        monkeypatch.setenv("PORT", str(setup.server.settings.port))
        for name, value in {**oauth(setup.issuer.url), **setup.provider.settings, "oauth_provider": setup.name}.items():
            monkeypatch.setenv(name.upper(), str(value))

    def __call__(self, token: str, *, keys: bool = True) -> tuple[int, str]:
        self._token.write_text(f"{token}\n")
        arguments = ["check", "--token", str(self._token), *(["--jwks", str(self._keys)] if keys else [])]
        asked = len(self._setup.issuer.requests)
        code = cli.run(self._service, arguments)
        said = self._capsys.readouterr()
        assert len(self._setup.issuer.requests) == asked, "it is offline"
        assert all(part not in said.out + said.err for part in token.split(".") if len(part) > 4), (
            "no part of the token"
        )
        return code, said.out


@pytest.fixture
def report(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    return Report(setup, tmp_path, monkeypatch, capsys)


def test_check_says_of_each_token_what_the_server_makes_of_it(setup: Setup, report: Report) -> None:
    for case, (claims, expected) in setup.provider.good.items():
        caller = expected.partition(":")[0]
        code, said = report(setup.token(claims))
        assert (code, f"accepted as oauth:{caller}\n" in said) == (0, True), case
        assert re.search(r"OK    scopes +notes:read\n", said), case
        assert "if its signature is valid" in report(setup.token(claims), keys=False)[1], case
    for case, (claims, reason) in setup.provider.bad.items():
        code, said = report(setup.token(claims))
        assert (code, f"refused ({reason})" in said.splitlines()[0]) == (1, True), f"{case}: {said}"
    code, said = report(setup.token(setup.provider.no_role))
    assert (code, "none of notes:read notes:write" in said) == (0, True)


def test_check_says_that_a_forged_token_is_one(setup: Setup, report: Report) -> None:
    head, body, _ = setup.token(setup.provider.user).split(".")
    foreign = jwt.encode({}, rsa.generate_private_key(public_exponent=65537, key_size=2048), algorithm="RS256")
    code, said = report(f"{head}.{body}.{foreign.split('.')[2]}")
    assert (code, "refused (signature)" in said) == (1, True)


def test_check_says_what_to_do_about_an_opaque_token(setup: Setup, report: Report) -> None:
    code, said = report("ya29.a0AfB_byC")
    assert code == 1
    assert "It is not a signed JWT." in said
    if setup.name == "google":
        assert "users need an authorization server that logs them in with Google" in said


def test_the_table_of_the_documents_is_that_of_the_profiles() -> None:
    text = (DOCUMENTS / "identity-providers.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("| ").removesuffix(" |") for line in text.splitlines() if line.startswith("| `OAUTH_")]
    rows = [[cell.strip("`").replace("\\|", "|") for cell in re.split(r" ?(?<!\\)\| ?", line)] for line in lines]
    table = {setting: cells for setting, *cells in rows}
    names = table.pop("OAUTH_PROVIDER")
    assert sorted(names) == sorted(PROFILES)
    for setting, values in table.items():
        member = setting.removeprefix("OAUTH_").lower()
        expected = [getattr(PROFILES[name], member) for name in names]  # type: ignore[index]
        assert values == expected, setting
