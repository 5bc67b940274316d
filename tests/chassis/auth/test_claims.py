"""Claims of the caller: which of them tools see, that they cannot be changed, and that they are in no log."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from mcp_chassis.auth.keys.format import new_id, new_key
from mcp_chassis.auth.keys.verifier import KeyVerifier
from mcp_chassis.auth.oauth.rules import Rules
from mcp_chassis.auth.oauth.settings import OAuthSettings
from mcp_chassis.auth.principal import Principal
from mcp_chassis.auth.verifier import Verifier
from mcp_chassis.parts import Parts
from mcp_chassis.settings import SettingsError, load_settings

from ..support.issuer import introspection, oauth, running_issuer
from ..support.keys import record_of

pytestmark = pytest.mark.anyio


def shown(claims: dict[str, Any], **paths: str) -> dict[str, Any]:
    rules = Rules(issuer="https://login.example.com", audience="mcp", shown=paths)
    return dict(rules.principal({"sub": "alice", "aud": "mcp"} | claims, is_jwt=False).claims)


def test_only_claims_on_the_list_are_shown_by_the_names_of_the_list() -> None:
    claims = {"tid": "acme", "email": "a@example.com", "groups": ["staff", "ops"], "phone": "1"}
    expected = {"tenant": "acme", "email": "a@example.com", "groups": ("staff", "ops")}
    assert shown(claims, tenant="tid", email="email", groups="groups", missing="missing") == expected
    assert shown(claims) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (1.5, "1.5"),
        *[(sign * (2**64 - 1), str(sign * (2**64 - 1))) for sign in (1, -1)],
        *[(sign * 2**64, None) for sign in (1, -1)],
        ([], ()),
        ([""], ("",)),
        ("x" * 8191, "x" * 8191),
        *[
            (value, None)
            for value in (None, {}, {"a": "b"}, [1], ["a", 1], [["a"]], "x" * 8192, ["x"] * 4097, 10**4000)
        ],
        *[(value, None) for value in (float("nan"), float("inf"), "a\nb", "\ud800", ["a\x1b"])],
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_claim_is_text_or_a_tuple_of_texts_or_absent(value: Any, expected: Any) -> None:
    assert shown({"claim": value}, claim="claim").get("claim") == expected


def test_a_path_leads_into_objects_and_a_claim_of_that_whole_name_comes_first() -> None:
    claims = {"realm_access": {"roles": ["a"]}, "https://example.com/tenant": "acme", "text": "x"}
    assert shown(claims, roles="realm_access.roles", tenant="https://example.com/tenant") == {
        "roles": ("a",),
        "tenant": "acme",
    }
    pointers = {
        "same": "/realm_access/roles",
        "named": "/https:~1~1example.com~1tenant",
        "none": "/realm_access/roles/0",
    }
    assert shown(claims, **pointers) == {"same": ("a",), "named": "acme"}
    assert shown(claims, a="text.b", b="realm_access.roles.c", c="realm_access", d="realm_access.") == {}


def test_claims_cannot_be_changed_by_a_tool() -> None:
    mutable = {"tenant": "acme", "groups": ["staff"]}
    principal = Principal("key:a", "key", claims=mutable)  # type: ignore[arg-type]
    mutable["tenant"] = "other"
    assert principal.claims == {"tenant": "acme", "groups": ("staff",)}
    with pytest.raises(TypeError):
        principal.claims["tenant"] = "other"  # type: ignore[index]
    with pytest.raises(AttributeError):
        principal.claims = {}  # type: ignore[misc]


def test_callers_with_other_claims_are_not_equal_and_claims_are_not_shown() -> None:
    acme, other = (Principal("oauth:alice", "oauth", claims={"tenant": tenant}) for tenant in ("acme", "umbrella"))
    assert acme != other
    assert acme == Principal("oauth:alice", "oauth", claims={"tenant": "acme"})
    assert len({acme, other}) == 2
    assert "acme" not in f"{acme!r} {acme}"


def test_a_claim_of_one_text_or_of_several_is_read_in_the_same_way() -> None:
    """`"admin" in claims["groups"]` is true for the one group `not-admin` if an issuer sends it as plain text."""
    principal = Principal("oauth:alice", "oauth", claims={"one": "not-admin", "two": ("a", "b")})
    assert [principal.claim_values(name) for name in ("one", "two", "none")] == [("not-admin",), ("a", "b"), ()]


async def test_labels_of_a_key_are_claims() -> None:
    key = new_key(new_id())
    record = record_of(key, labels={"tenant": ("acme",), "groups": ("a", "b")})
    principal = await KeyVerifier(lambda: {record.id: record}).verify(key)
    assert principal is not None
    assert principal.claims == {"tenant": "acme", "groups": ("a", "b")}
    assert principal.name == "ci"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("tenant:tid, email ,groups", {"tenant": "tid", "email": "email", "groups": "groups"}),
        ("tenant:https://example.com/t", {"tenant": "https://example.com/t"}),
        ("roles:realm_access.roles", {"roles": "realm_access.roles"}),
    ],
)
def test_the_setting(text: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTH_CLAIMS", text)
    assert dict(OAuthSettings().oauth_claims) == expected


@pytest.mark.parametrize(
    "text", ["a:b,a:c", "https://example.com/t", ":b", "a:", "a.b", ",".join(f"c{n}" for n in range(33))]
)
def test_a_wrong_list_of_claims_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings(_env_file=None, api_key="k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO", oauth_claims=text)
    assert "OAUTH_CLAIMS: " in str(refusal.value)


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
async def test_claims_of_tokens_reach_the_principal_and_no_log(kind: str) -> None:
    with running_issuer() as issuer:
        allowed = {"oauth_claims": "tenant:tid,groups", "environment": "development", "enable_auth": True}
        settings = load_settings(_env_file=None, **(introspection(issuer) | oauth(issuer.url) | allowed))
        tokens = [_token(issuer, kind, settings.resource_url, tenant) for tenant in ("acme-7431", "other-7431")]
        with capture_logs() as logged:
            acme, other = [await _verified(_verifiers(settings), token) for token in tokens]
    assert acme.claims == {"tenant": "acme-7431", "groups": ("staff",)}
    assert acme.id == other.id
    assert acme != other, "an open stream ends when the tenant changes"
    assert "7431" not in json.dumps(logged)


def _token(issuer: Any, kind: str, audience: str, tenant: str) -> str:
    claims = {"tid": tenant, "groups": ["staff"], "phone": "1"}
    if kind == "jwt":
        return str(issuer.token(audience, **claims))
    token = f"opaque-{tenant}"
    issuer.opaque[token] = issuer.claims(audience, **claims)
    return token


def _verifiers(settings: Any) -> list[Verifier]:
    return Parts(settings=settings, name="a", version="1").verifiers


async def _verified(verifiers: list[Verifier], token: str) -> Principal:
    for verifier in verifiers:
        if (principal := await verifier.verify(token)) is not None:
            return principal
    raise AssertionError("no verifier knows it")
