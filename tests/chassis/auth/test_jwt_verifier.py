"""Access tokens in JWT form: every way a token can be wrong, against an issuer on a real socket."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from mcp_chassis.auth.oauth.jwks import IssuerKeys, IssuerUnavailable
from mcp_chassis.auth.oauth.jwt_verifier import JwtVerifier
from mcp_chassis.auth.oauth.rules import Rules
from mcp_chassis.auth.principal import Principal
from mcp_chassis.auth.verifier import InvalidCredential

from ..support.issuer import KEYS, Issuer, oauth, public_jwk, running_issuer
from ..support.running import free_port, running_server

pytestmark = pytest.mark.anyio

AUDIENCE = "https://mcp.example.com/mcp"
NOW = int(time.time())
LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


@pytest.fixture(autouse=True)
def _as_at_first(issuer: Issuer) -> None:
    issuer.status = 200
    issuer.publish(public_jwk(issuer.private_key, issuer.kid))
    issuer.requests.clear()


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


_VERIFIERS: dict[str, JwtVerifier] = {}


def verifier(issuer: Issuer) -> JwtVerifier:
    """Return a verifier that knows the present keys: a new one only if they have changed, for speed."""
    known = f"{issuer.url} {issuer.status} {issuer.documents[KEYS]}"
    fresh = JwtVerifier(rules=Rules(issuer=issuer.url, audience=AUDIENCE), keys=IssuerKeys(issuer.url))
    return _VERIFIERS.setdefault(known, fresh)


async def reason(issuer: Issuer, token: str) -> str:
    """Have `token` refused and return the reason for the security event."""
    with pytest.raises(InvalidCredential) as refusal:
        await verifier(issuer).verify(token)
    return refusal.value.reason


async def found(judge: JwtVerifier, token: str) -> Principal:
    """Return whom a good token stands for."""
    principal = await judge.verify(token)
    assert principal is not None
    return principal


def by_hand(header: dict[str, Any], claims: dict[str, Any], *, secret: bytes | None = None) -> str:
    """Write a token that no honest library writes: signed with HMAC and `secret`, or not at all."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signed = b".".join(parts)
    signature = b"" if secret is None else hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


# --- good tokens ---


async def test_a_good_token_stands_for_its_subject(issuer: Issuer) -> None:
    principal = await verifier(issuer).verify(issuer.token(AUDIENCE))
    assert principal == Principal("oauth:alice", "oauth", frozenset({"notes:read"}))


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", None])
async def test_both_types_of_access_tokens_are_known(issuer: Issuer, typ: str | None) -> None:
    assert await verifier(issuer).verify(issuer.token(AUDIENCE, headers={"typ": typ})) is not None


async def test_one_of_several_audiences_is_enough(issuer: Issuer) -> None:
    token = issuer.token(AUDIENCE, aud=["https://another.example", AUDIENCE])
    assert (await found(verifier(issuer), token)).id == "oauth:alice"


async def test_the_longest_lifetime_is_good_and_a_second_more_is_not(issuer: Issuer) -> None:
    token = issuer.token(AUDIENCE, iat=NOW, exp=NOW + 86_400)
    assert (await found(verifier(issuer), token)).id == "oauth:alice"
    with pytest.raises(InvalidCredential) as refusal:
        await verifier(issuer).verify(issuer.token(AUDIENCE, iat=NOW, exp=NOW + 86_401))
    assert refusal.value.reason == "lifetime"


async def test_a_verdict_ends_when_the_token_does(issuer: Issuer) -> None:
    end = int(time.time()) + 300
    judge, token = verifier(issuer), issuer.token(AUDIENCE, exp=end)
    await judge.verify(token)
    known = judge._verdicts.last(token)
    assert known is not None
    assert known.until == end + 30


async def test_clocks_may_differ_by_half_a_minute(issuer: Issuer) -> None:
    now = int(time.time())
    good: list[dict[str, Any]] = [{"iat": now + 20, "nbf": now + 20}, {"exp": now - 20}]
    for changes in good:
        assert (await found(verifier(issuer), issuer.token(AUDIENCE, **changes))).id == "oauth:alice"
    bad: list[dict[str, Any]] = [{"iat": now + 50}, {"nbf": now + 50}, {"exp": now - 30}]
    for changes in bad:
        with pytest.raises(InvalidCredential) as refusal:
            await verifier(issuer).verify(issuer.token(AUDIENCE, **changes))
        assert refusal.value.was_good == ("exp" in changes), "tokens of all users expire: to present one is no guess"


@pytest.mark.parametrize("algorithm", ["RS256", "PS512"])
async def test_rsa_keys(issuer: Issuer, rsa_key: rsa.RSAPrivateKey, algorithm: str) -> None:
    issuer.publish({**RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True), "kid": "rsa"})
    token = jwt.encode(issuer.claims(AUDIENCE), rsa_key, algorithm=algorithm, headers={"kid": "rsa"})
    assert (await found(verifier(issuer), token)).id == "oauth:alice"


async def test_ed25519_keys(issuer: Issuer) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    issuer.publish({**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "ed"})
    token = jwt.encode(issuer.claims(AUDIENCE), key, algorithm="EdDSA", headers={"kid": "ed"})
    assert (await found(verifier(issuer), token)).id == "oauth:alice"


# --- scopes ---


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "a b  c"}, {"a", "b", "c"}),
        ({"scope": None}, set()),
        ({"scope": None, "scp": "a b"}, {"a", "b"}),
        ({"scope": None, "scp": ["a", "b", 7]}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a", "b"}),
        ({"scope": 7}, set()),
        ({"scope": "*"}, set()),
        ({"scope": "a *"}, {"a"}),
        ({"scope": None, "scp": ["*", "a"]}, {"a"}),
    ],
)
async def test_scopes_are_what_the_issuer_granted_and_never_the_star(
    issuer: Issuer, claims: dict[str, Any], scopes: set[str]
) -> None:
    """`*` is every scope inside this server. An issuer that lets clients choose scope names must not grant it."""
    principal = await found(verifier(issuer), issuer.token(AUDIENCE, **claims))
    assert principal.scopes == scopes
    assert not principal.may("something else")


# --- bad claims ---


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"aud": "https://another.example/mcp"}, "audience"),
        ({"aud": AUDIENCE + "/"}, "audience"),
        ({"aud": []}, "audience"),
        ({"iss": "https://another.example"}, "issuer"),
        ({"exp": NOW - 60}, "expired"),
        ({"nbf": NOW + 3600}, "claims"),
        ({"iat": NOW + 3600}, "claims"),
        ({"aud": None}, "audience"),
        ({"iss": None}, "claims"),
        ({"exp": None}, "claims"),
        ({"iat": None}, "claims"),
        ({"sub": None}, "subject"),
        ({"sub": 7}, "subject"),
        ({"exp": "never"}, "claims"),
        ({"sub": ""}, "subject"),
        ({"sub": "a" * 256}, "subject"),
        ({"sub": "alice\nforged line"}, "subject"),
    ],
)
async def test_a_token_with_wrong_claims_is_refused(issuer: Issuer, claims: dict[str, Any], expected: str) -> None:
    assert await reason(issuer, issuer.token(AUDIENCE, **claims)) == expected


@pytest.mark.parametrize("payload", [b"", b"no JSON", b"\xff", b"[]", b"7", b'{"a":' + b"[" * 100_000], ids=len)
async def test_a_signed_payload_that_is_no_json_object_is_refused(issuer: Issuer, payload: bytes) -> None:
    headers = {"kid": issuer.kid, "typ": "at+jwt"}
    token = jwt.PyJWS().encode(payload, issuer.private_key, algorithm="ES256", headers=headers)
    assert await reason(issuer, token) == "claims"


# --- bad headers and signatures ---


async def test_alg_none_is_refused(issuer: Issuer) -> None:
    for algorithm in ("none", "None", "NONE", ""):
        token = by_hand({"alg": algorithm, "kid": "key-1", "typ": "at+jwt"}, issuer.claims(AUDIENCE))
        assert await reason(issuer, token) == "algorithm"


async def test_hs256_with_the_public_key_as_secret_is_refused(issuer: Issuer, rsa_key: rsa.RSAPrivateKey) -> None:
    """Algorithm confusion: everybody knows the public key, so everybody could sign with it."""
    header = {"alg": "HS256", "kid": "key-1", "typ": "at+jwt"}
    assert await reason(issuer, by_hand(header, issuer.claims(AUDIENCE), secret=issuer.public_pem)) == "algorithm"
    issuer.publish({"kty": "oct", "kid": "key-1", "k": base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")})
    assert await reason(issuer, by_hand(header, issuer.claims(AUDIENCE), secret=b"s" * 32)) == "algorithm"


async def test_the_key_decides_the_algorithm(issuer: Issuer, rsa_key: rsa.RSAPrivateKey) -> None:
    jwk = {**RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True), "kid": "key-1"}
    issuer.publish(jwk)
    assert await reason(issuer, issuer.token(AUDIENCE)) == "algorithm"
    issuer.publish(jwk | {"alg": "PS256"})
    token = jwt.encode(issuer.claims(AUDIENCE), rsa_key, algorithm="RS256", headers={"kid": "key-1"})
    assert await reason(issuer, token) == "algorithm"


async def test_another_key_under_the_same_kid_is_refused(issuer: Issuer) -> None:
    token = issuer.token(AUDIENCE)
    issuer.publish(public_jwk(ec.generate_private_key(ec.SECP256R1()), "key-1"))
    assert await reason(issuer, token) == "signature"


async def test_a_changed_token_is_refused(issuer: Issuer) -> None:
    header, _, signature = issuer.token(AUDIENCE).split(".")
    claims = json.dumps(issuer.claims(AUDIENCE, sub="admin")).encode()
    forged = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    assert await reason(issuer, f"{header}.{forged}.{signature}") == "signature"


@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_a_place_of_keys_in_the_token_is_never_visited(issuer: Issuer, name: str) -> None:
    with running_issuer() as foreign:
        header = {name: f"{foreign.url}{KEYS}", "kid": foreign.kid}
        claims = issuer.claims(AUDIENCE)
        forged = jwt.encode(claims, foreign.private_key, algorithm="ES256", headers=header)
        assert await reason(issuer, forged) == "signature"
        assert await verifier(issuer).verify(forged.replace(".", "..", 1)) is None
        assert foreign.requests == []


async def test_a_key_in_the_token_is_never_used(issuer: Issuer) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    header = {"jwk": public_jwk(own, "key-1"), "kid": "key-1"}
    token = jwt.encode(issuer.claims(AUDIENCE), own, algorithm="ES256", headers=header)
    assert await reason(issuer, token) == "signature"


async def test_unknown_critical_extensions_are_refused(issuer: Issuer) -> None:
    for crit in (["x"], [], "x"):
        token = issuer.token(AUDIENCE, headers={"crit": crit, "x": 1})
        assert await reason(issuer, token) in {"header", "malformed"}


async def test_a_token_of_another_type_is_refused(issuer: Issuer) -> None:
    """An ID token or a logout token is signed by the same issuer with the same key."""
    assert await reason(issuer, issuer.token(AUDIENCE, headers={"typ": "logout+jwt"})) == "header"


async def test_an_unknown_kid_is_refused(issuer: Issuer) -> None:
    assert await reason(issuer, issuer.token(AUDIENCE, headers={"kid": "unknown"})) == "unknown_key"


@pytest.mark.parametrize(
    "token",
    ["", "abc", "a.b", "a.b.c", "a.b.c.d.e", ".." * 10, "W10.e30.AA", "\u043a.e30.AA"],
)
async def test_text_that_is_not_a_signed_jwt_is_for_another_verifier(issuer: Issuer, token: str) -> None:
    assert await verifier(issuer).verify(token) is None


async def test_a_token_without_an_algorithm_is_rejected(issuer: Issuer) -> None:
    assert await reason(issuer, "e30.e30.") == "algorithm"


async def test_a_deeply_nested_header_is_no_jwt(issuer: Issuer) -> None:
    """5,000 levels are more than Python's parser can take; it must not end in an internal error."""
    header = base64.urlsafe_b64encode(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}").decode().rstrip("=")
    assert await verifier(issuer).verify(f"{header}.e30.AA") is None


@pytest.mark.parametrize(
    "change",
    [{"x": "AA"}, {"x": 7}, {"x": "?"}, {"y": None}, {"crv": "P-999"}, {"kty": "?"}, {"kty": ["EC"]}, {"crv": []}],
    ids=repr,
)
async def test_a_broken_key_of_the_issuer_is_a_refusal_not_a_crash(issuer: Issuer, change: dict[str, Any]) -> None:
    token = issuer.token(AUDIENCE)
    issuer.publish(public_jwk(issuer.private_key, "key-1") | change)
    assert await reason(issuer, token) in {"claims", "algorithm", "signature"}


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
async def test_a_key_that_is_too_short_is_refused(issuer: Issuer) -> None:
    """A modulus of 1024 bits can be factored (RFC 7518, section 3.3, asks for 2048)."""
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  (the attack)
    issuer.publish({**RSAAlgorithm.to_jwk(short.public_key(), as_dict=True), "kid": "short"})
    token = jwt.encode(issuer.claims(AUDIENCE), short, algorithm="RS256", headers={"kid": "short"})
    assert await reason(issuer, token) == "claims"


# --- the issuer itself ---


async def test_a_key_that_is_withdrawn_ends_tokens_that_were_found_good(issuer: Issuer) -> None:
    """Also one that comes back as another key under the same name."""
    keys = IssuerKeys(issuer.url)
    judge = JwtVerifier(rules=Rules(issuer=issuer.url, audience=AUDIENCE), keys=keys)
    token = issuer.token(AUDIENCE)
    other = ec.generate_private_key(ec.SECP256R1())
    for published, expected in ((public_jwk(other, "key-2"), "unknown_key"), (public_jwk(other, "key-1"), "signature")):
        keys._keys = issuer.documents[KEYS]["keys"]
        assert (await found(judge, token)).id == "oauth:alice"
        keys._keys = [published]
        with pytest.raises(InvalidCredential) as refusal:
            await judge.verify(token)
        assert refusal.value.reason == expected


async def test_an_issuer_with_a_trailing_slash_is_another_issuer() -> None:
    with running_issuer("/") as issuer:
        assert issuer.url.endswith("/")
        assert (await found(verifier(issuer), issuer.token(AUDIENCE))).id == "oauth:alice"
        assert await reason(issuer, issuer.token(AUDIENCE, iss=issuer.url.rstrip("/"))) == "issuer"


async def test_no_keys_is_not_a_verdict(issuer: Issuer) -> None:
    issuer.status = 500
    with pytest.raises(IssuerUnavailable):
        await verifier(issuer).verify(issuer.token(AUDIENCE))


# --- through all layers ---


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_the_server_serves_a_good_token_and_the_key_beside_it(issuer: Issuer) -> None:
    with running_server(**oauth(issuer.url)) as server:
        audience = f"{server.url}/mcp"
        assert server.post(LIST_TOOLS, headers=bearer(issuer.token(audience))).status_code == 200
        assert server.post(LIST_TOOLS).status_code == 200
        wrong = server.post(LIST_TOOLS, headers=bearer(issuer.token("https://another.example")))
        assert wrong.status_code == 401
        assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
        (event,) = server.events("authentication_failed")
        assert event["details"]["reason"] == "audience"


async def test_oauth_audience_replaces_the_resource_url(issuer: Issuer) -> None:
    with running_server(**oauth(issuer.url), oauth_audience="api://notes") as server:
        assert server.post(LIST_TOOLS, headers=bearer(issuer.token("api://notes"))).status_code == 200
        assert server.post(LIST_TOOLS, headers=bearer(issuer.token(f"{server.url}/mcp"))).status_code == 401


async def test_while_the_issuer_is_down_the_answer_is_503_and_the_key_works(issuer: Issuer) -> None:
    with running_server(**oauth(f"http://127.0.0.1:{free_port()}")) as server:
        for _ in range(3):
            answer = server.post(LIST_TOOLS, headers=bearer(issuer.token(f"{server.url}/mcp")))
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
        assert server.post(LIST_TOOLS).status_code == 200
        assert server.get("/livez").status_code == 200
