"""Where scopes, audience and caller are in a token is a setting, checked at the start, and never guessed."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_chassis.auth.oauth import rules as oauth_rules
from mcp_chassis.auth.oauth.rules import Rules, audience_claims, number, quoted
from mcp_chassis.auth.oauth.settings import OAuthSettings
from mcp_chassis.auth.verifier import InvalidCredential
from mcp_chassis.settings import SettingsError, load_settings

from ..support.issuer import oauth, running_issuer
from ..support.running import running_server

ISSUER = "https://login.example.com/"
RESOURCE = "https://mcp.example.com/mcp"


def rules(**settings: str) -> Rules:
    """Return the rules of settings, as a server reads them."""
    given = {f"oauth_{name}": value for name, value in settings.items()}
    loaded = load_settings(_env_file=None, **({"auth_mode": "oauth", "oauth_issuer": ISSUER} | given))
    found = loaded.room(OAuthSettings).rules_of(RESOURCE)
    assert found is not None
    return found


def reason(judge: Rules, claims: dict[str, Any]) -> str:
    """Return the reason of the first rule that a token with these claims breaks; empty if it breaks none."""
    now = time.time()
    whole = {"iss": ISSUER, "aud": RESOURCE, "sub": "alice", "iat": now, "exp": now + 60} | claims
    present = {name: value for name, value in whole.items() if value is not None}
    return next((reason for reason, _ in judge.violations(present, is_jwt=True)), "")


@pytest.mark.parametrize(
    ("settings", "claims", "scopes"),
    [
        ({}, {"roles": ["a"]}, ""),
        ({"scope_claims": "scope, roles"}, {"scope": "a b", "roles": ["b", "c"]}, "a b c"),
        ({"scope_claims": "scp|roles"}, {"scp": "a", "roles": ["b"]}, "a"),
        ({"scope_claims": "scp|roles"}, {"scp": "", "roles": ["b"]}, ""),
        ({"scope_claims": "scp|roles"}, {"scp": None, "roles": ["b"]}, "b"),
        ({"scope_claims": "realm_access.roles"}, {"realm_access": {"roles": ["a"]}}, "a"),
        (
            {"scope_claims": "/resource_access/my.client/roles"},
            {"resource_access": {"my.client": {"roles": ["a"]}}},
            "a",
        ),
        ({"scope_claims": "/a~1b~01"}, {"a/b~1": "x"}, "x"),
        ({"scope_claims": "https://example.com/roles"}, {"https://example.com/roles": ["a"]}, "a"),
        ({"scope_claims": "/roles/0"}, {"roles": ["a"]}, ""),
        ({"scope_claims": "roles"}, {"roles": {"a": True}}, ""),
        ({"scope_claims": "roles"}, {"roles": ["a", 1, None, ["b"], ""]}, "a"),
        ({"scope_map": "Orders.Read=orders:read"}, {"scope": "Orders.Read other"}, "orders:read other"),
        ({"scope_map": "Op=a b, Op = c"}, {"scope": "Op"}, "a b c"),
        ({"scope_claims": "roles", "scope_map": "Notes Reader=a"}, {"roles": ["Notes Reader"]}, "a"),
        ({"scope_prefix": "api://x/"}, {"scope": "api://x/a b api://y/c"}, "a b api://y/c"),
        ({"scope_prefix": "x/", "scope_map": "Read=a"}, {"scope": "x/Read"}, "a"),
        ({"scope_prefix": "x/"}, {"scope": "x/* * x/"}, ""),
    ],
    ids=str,
)
def test_scopes(settings: dict[str, str], claims: dict[str, Any], scopes: str) -> None:
    assert rules(**settings).scopes(claims) == set(scopes.split())


@pytest.mark.parametrize(
    ("settings", "asked_for"),
    [
        ({}, "orders:read"),
        ({"scope_prefix": "api://x/"}, "api://x/orders:read"),
        ({"scope_map": "Orders.Read=orders:read,Op=orders:read"}, "Orders.Read"),
        ({"scope_map": "Orders.Read=orders:read", "scope_prefix": "api://x/"}, "api://x/Orders.Read"),
        ({"scope_map": "api://x/Orders.Read=orders:read", "scope_prefix": "api://x/"}, "api://x/Orders.Read"),
        ({"scope_map": "ci@project.example=orders:read"}, "orders:read"),
    ],
    ids=str,
)
def test_what_clients_ask_for(settings: dict[str, str], asked_for: str) -> None:
    assert rules(**settings).asked_for("orders:read") == asked_for
    assert rules(**settings).asked_for("offline_access") == "offline_access", "which OAUTH_BASE_SCOPES may name"


CLIENTS = {"audience_claims": "aud,azp,client_id", "allowed_clients": "one, two"}
AZP = {"audience_claims": "azp", "allowed_clients": "one", "required_claims": "typ=Bearer"}


@pytest.mark.parametrize(
    ("settings", "claims", "expected"),
    [
        ({}, {"aud": None, "azp": "one"}, "audience"),
        (CLIENTS, {"aud": None, "azp": "one"}, ""),
        (CLIENTS, {"aud": None, "azp": "three"}, "client"),
        (CLIENTS, {"aud": None, "azp": ["one"]}, "client"),
        (CLIENTS, {"aud": None, "azp": "one", "client_id": "three"}, "client"),
        (CLIENTS, {"aud": None}, "audience"),
        (CLIENTS, {"aud": "https://other", "azp": "one"}, "audience"),
        (CLIENTS, {"aud": [], "azp": "one"}, "audience"),
        (CLIENTS, {"azp": "three"}, "client"),
        (CLIENTS, {}, "client"),
        ({"allowed_clients": "one"}, {"appid": "one"}, ""),
        ({"allowed_clients": "one"}, {"cid": "two"}, "client"),
        (AZP, {"aud": "account", "azp": "one", "typ": "Bearer"}, ""),
        (AZP, {"aud": "one", "azp": "one", "typ": "ID"}, "required_claim"),
        (AZP, {"aud": "one", "azp": "one"}, "required_claim"),
        ({"required_claims": "groups=staff, n=1,b=true"}, {"groups": ["x", "staff"], "n": 1, "b": True}, ""),
        ({"required_claims": "groups=staff"}, {"groups": "not-staff"}, "required_claim"),
        ({"required_claims": "realm_access.roles=mcp"}, {"realm_access": {"roles": ["mcp"]}}, ""),
    ],
    ids=str,
)
def test_audience_client_and_kind(settings: dict[str, str], claims: dict[str, Any], expected: str) -> None:
    assert reason(rules(**settings), claims) == expected


def test_a_claim_that_names_no_caller_is_not_passed_over() -> None:
    """Otherwise a user with an empty subject would be their client, and share its rights with all others."""
    judge = rules(subject_claims="sub,azp")
    assert judge.principal({"aud": RESOURCE, "azp": "ci"}, is_jwt=False).id == "oauth:ci"
    for subject in ("", 7, ["a"], "a\nb", "x" * 256):
        assert reason(judge, {"sub": subject, "azp": "ci"}) == "subject"


def test_a_client_is_the_caller_only_in_an_introspection_response() -> None:
    client = {"aud": RESOURCE, "client_id": "ci"}
    assert rules().principal(client, is_jwt=False).id == "oauth:ci"
    assert rules().principal(client | {"sub": "alice"}, is_jwt=False).id == "oauth:alice"
    assert reason(rules(), {"sub": None, "client_id": "ci"}) == "subject"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"scope_claims": "scope,,roles"}, "OAUTH_SCOPE_CLAIMS: is not a list of claims"),
        ({"scope_claims": "a|"}, "OAUTH_SCOPE_CLAIMS: is not a list of claims"),
        ({"scope_claims": "/a~2"}, "OAUTH_SCOPE_CLAIMS: is not a list of claims"),
        ({"scope_map": "Orders.Read"}, "OAUTH_SCOPE_MAP: 'Orders.Read' is not of the form name=value"),
        (
            {"scope_map": "Admin=*"},
            "OAUTH_SCOPE_MAP: 'Admin' must be followed by = and scopes of this server, without *",
        ),
        ({"scope_map": 'Admin=a"b'}, "OAUTH_SCOPE_MAP: 'Admin' must be followed by"),
        ({"scope_prefix": 'api://x/ "'}, "OAUTH_SCOPE_PREFIX: "),
        ({"subject_claims": ","}, "OAUTH_SUBJECT_CLAIMS: is not a list of claims"),
        ({"required_claims": "typ"}, "OAUTH_REQUIRED_CLAIMS: 'typ' is not of the form name=value"),
        ({"audience_claims": "aud,sub"}, "OAUTH_AUDIENCE_CLAIMS: names a claim other than aud, azp, client_id"),
        ({"audience_claims": "aud,azp"}, "OAUTH_ALLOWED_CLIENTS: is needed where OAUTH_AUDIENCE_CLAIMS is aud,azp"),
        ({"audience_claims": "azp", "allowed_clients": "a"}, "OAUTH_REQUIRED_CLAIMS: is needed where azp decides"),
        ({"provider": "azure"}, "OAUTH_PROVIDER: write one of entra, auth0, "),
        ({"provider": "entra", "audience": "x"}, "OAUTH_ISSUER: is not one of entra. Set it to https://login.micro"),
        ({"provider": "entra", "issuer": "https://login.microsoftonline.com/common/v2.0"}, "OAUTH_ISSUER: is not one"),
        (
            {"provider": "entra", "issuer": "https://sts.windows.net/5d2cbd5c-2a56-4f6a-a5ca-2dfd1a3f3fbb/"},
            "OAUTH_ISSUER",
        ),
        (
            {"provider": "entra", "issuer": "https://x.example/5d2cbd5c-2a56-4f6a-a5ca-2dfd1a3f3fbb/v2.0"},
            "OAUTH_AUDIENCE: is needed with OAUTH_PROVIDER=entra. Set it to the Application (client) ID",
        ),
        (
            {"provider": "auth0", "issuer": "https://a.auth0.com"},
            "OAUTH_ISSUER: is not one of auth0. Set it to https://<",
        ),
        ({"provider": "keycloak", "issuer": "https://a.example/realms/x/"}, "OAUTH_ISSUER: is not one of keycloak"),
        ({"provider": "okta", "issuer": "https://a.okta.com"}, "OAUTH_ISSUER: is not one of okta"),
        (
            {"provider": "cognito", "issuer": "https://a.auth.eu-central-1.amazoncognito.com", "allowed_clients": "a"},
            "OAUTH_ISSUER: is not one of cognito",
        ),
        (
            {"provider": "cognito", "issuer": "https://x.example/eu-central-1_A1"},
            "OAUTH_ALLOWED_CLIENTS: is needed where",
        ),
        (
            {"provider": "google", "issuer": "https://accounts.google.com"},
            "OAUTH_ALLOWED_CLIENTS: is needed with OAUTH_",
        ),
        (
            {
                "provider": "google",
                "issuer": "https://accounts.google.com",
                "allowed_clients": "1",
                "introspection_url": "https://oauth2.googleapis.com/tokeninfo",
                "client_id": "a",
                "client_secret": "b",
            },
            "OAUTH_INTROSPECTION_URL: cannot be used with OAUTH_PROVIDER=google: Google has no introspection endpoint",
        ),
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant_are_refused_at_the_start(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as error:
        rules(**settings)
    assert any(found.startswith(problem) for found in error.value.problems), error.value.problems


def test_a_setting_wins_over_the_profile() -> None:
    judge = rules(provider="auth0", scope_claims="permissions", subject_claims="azp", scope_prefix="x/")
    assert (judge.scope_claims, judge.subject_claims, judge.scope_prefix) == ((("permissions",),), ("azp",), "x/")
    assert rules(provider="auth0").scope_claims == (("scope", "permissions"),)


def test_profiles_have_no_effect_with_api_keys() -> None:
    with pytest.raises(SettingsError, match="OAUTH_PROVIDER: has no effect while AUTH_MODE is api-key"):
        load_settings(_env_file=None, api_key="k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO", oauth_provider="entra")


def test_other_claims_never_show_in_an_answer_or_an_event() -> None:
    """The sentences for the operator quote a token; the server's own words do not."""
    with running_issuer() as issuer, running_server(**oauth(issuer.url), oauth_required_claims="ver=2.0") as server:
        token = issuer.token(f"{server.url}/mcp", ver="hunter2")
        answer = server.post({}, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        (event,) = server.events("authentication_failed")
    assert event["details"]["reason"] == "required_claim"
    assert "hunter2" not in answer.text + str(answer.headers) + str(event)


def test_a_subject_has_1_to_255_printable_characters() -> None:
    for subject, expected in (("", "subject"), ("a", ""), ("a" * 255, ""), ("a" * 256, "subject"), ("a\nb", "subject")):
        assert reason(rules(), {"sub": subject}) == expected, len(subject)


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"exp": -29}, None),
        ({"exp": -30}, "It expired 30 seconds ago."),
        ({"nbf": 30}, None),
        ({"nbf": 31}, "nbf is 31 seconds ahead of this machine's clock."),
        ({"iat": 30, "exp": 90}, None),
        ({"iat": 31, "exp": 90}, "iat is 31 seconds ahead of this machine's clock."),
        ({"iat": 0, "exp": 86_400}, None),
        ({"iat": -1, "exp": 86_400}, "It lives for 86401 seconds, longer than OAUTH_MAX_TOKEN_LIFETIME."),
    ],
    ids=str,
)
def test_times_may_differ_by_30_seconds_and_a_sentence_says_by_how_many_they_do(
    monkeypatch: pytest.MonkeyPatch, claims: dict[str, int], sentence: str | None
) -> None:
    now = 1_000_000_000
    monkeypatch.setattr(oauth_rules, "time", SimpleNamespace(time=lambda: float(now)))
    times = {name: now + offset for name, offset in ({"iat": -60, "exp": 60} | claims).items()}
    whole = {"iss": ISSUER, "aud": RESOURCE, "sub": "alice"} | times
    assert [said for _, said in rules().violations(whole, is_jwt=True)] == ([sentence] if sentence else [])


def test_a_time_is_a_number_from_0_to_2_to_the_53() -> None:
    for time_claim in (0, 0.5, 1, 2**53 - 1, 2**53, 2.0**53):
        assert number(time_claim) == time_claim
    for value in (-1, -0.5, 2**53 + 1, float("nan"), float("inf"), True, False, "1", None, [1]):
        with pytest.raises(InvalidCredential, match="claims"):
            number(value)


def test_an_audience_may_be_in_every_claim_that_names_it() -> None:
    everything = "aud,azp,client_id,cid,appid"
    assert audience_claims(everything) == tuple(everything.split(","))


def test_a_long_value_is_cut_for_the_terminal() -> None:
    assert quoted("x" * 198) == f'"{"x" * 198}"'
    assert quoted("x" * 199) == f'"{"x" * 199}…'
