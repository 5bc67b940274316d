"""Forged and borrowed access tokens over HTTP: the whole table, on every route."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from starlette.routing import Route

from mcp_chassis.app import create_app
from mcp_chassis.auth.keys.format import new_id, new_key
from mcp_chassis.auth.oauth import introspection as introspecting
from mcp_chassis.http.routes import WELL_KNOWN
from secure_mcp_server.server import SERVER
from secure_mcp_server.tools import TOOLS

from ..support.issuer import KEYS, Issuer, introspection, oauth, public_jwk, running_issuer
from ..support.keys import add_key
from ..support.running import RunningServer, free_port, new_secret, running_server, wait_until
from .wire import ACCEPT, JSON, Header, send

LIST_TOOLS = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
NOW = int(time.time())
DAY = 86_400


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


@pytest.fixture(scope="module")
def foreign() -> Iterator[Issuer]:
    """An issuer that is not ours, with keys under the same names."""
    with running_issuer() as running:
        yield running


@pytest.fixture(scope="module")
def server(issuer: Issuer) -> Iterator[RunningServer]:
    """A server without a limit for wrong credentials in the way."""
    with running_server(**oauth(issuer.url), max_failed_auth_per_minute=10_000) as running:
        yield running


def audience(server: RunningServer) -> str:
    return f"{server.url}/mcp"


def bearer(token: str) -> Header:
    return "Authorization", f"Bearer {token}"


def encoded(part: object) -> bytes:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def by_hand(header: object, claims: object, secret: bytes | None = None) -> str:
    """Write a token that no honest library writes: signed with HMAC and `secret`, or not at all."""
    signed = encoded(header) + b"." + encoded(claims)
    signature = b"" if secret is None else hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + encoded(signature)).decode()


def own_key(aud: str, issuer: Issuer, **header: Any) -> str:
    """Sign good claims with a key of the attacker's own."""
    mine = ec.generate_private_key(ec.SECP256R1())
    more = {"jwk": public_jwk(mine, issuer.kid)} if header.pop("embed", False) else {}
    return jwt.encode(issuer.claims(aud), mine, algorithm="ES256", headers={"kid": issuer.kid, **header, **more})


def with_b64(aud: str, issuer: Issuer) -> str:
    """Sign properly, with an extension that PyJWT has and this server does not need (RFC 7797)."""
    header = {"alg": "ES256", "kid": issuer.kid, "crit": ["b64"], "b64": True}
    signed = encoded(header) + b"." + encoded(issuer.claims(aud))
    signature = ECAlgorithm(ECAlgorithm.SHA256).sign(signed, issuer.private_key)
    return (signed + b"." + encoded(signature)).decode()


Forge = Callable[[str, Issuer, Issuer], str]
HS = {"alg": "HS256", "typ": "at+jwt", "kid": "key-1"}
ATTACKS: dict[str, tuple[Forge, str]] = {
    "alg none": (lambda a, i, _: by_hand({"alg": "none", "kid": "key-1"}, i.claims(a)), "algorithm"),
    "alg nOnE": (lambda a, i, _: by_hand({"alg": "nOnE", "kid": "key-1"}, i.claims(a)), "algorithm"),
    "no alg": (lambda a, i, _: by_hand({"kid": "key-1"}, i.claims(a)), "algorithm"),
    "alg is a list": (lambda a, i, _: by_hand({"alg": ["ES256"], "kid": "key-1"}, i.claims(a)), "algorithm"),
    "alg is an object": (lambda a, i, _: by_hand({"alg": {"ES256": 1}, "kid": "key-1"}, i.claims(a)), "algorithm"),
    "no signature": (lambda a, i, _: i.token(a).rpartition(".")[0] + ".", "signature"),
    "zero signature": (lambda a, i, _: i.token(a).rpartition(".")[0] + "." + "A" * 86, "signature"),
    "the public key as HMAC secret": (lambda a, i, _: by_hand(HS, i.claims(a), i.public_pem), "algorithm"),
    "the JWK as HMAC secret": (
        lambda a, i, _: by_hand(HS, i.claims(a), json.dumps(i.documents[KEYS]["keys"][0]).encode()),
        "algorithm",
    ),
    "an empty HMAC secret": (lambda a, i, _: by_hand(HS, i.claims(a), b""), "algorithm"),
    "another curve": (
        lambda a, i, _: jwt.encode(
            i.claims(a), ec.generate_private_key(ec.SECP384R1()), algorithm="ES384", headers={"kid": i.kid}
        ),
        "algorithm",
    ),
    "the attacker's key": (lambda a, i, _: own_key(a, i), "signature"),
    "the attacker's key, embedded": (lambda a, i, _: own_key(a, i, embed=True), "signature"),
    "the attacker's keys at jku": (lambda a, i, f: own_key(a, i, jku=f.url + KEYS), "signature"),
    "the attacker's certificate at x5u": (lambda a, i, f: own_key(a, i, x5u=f.url + KEYS), "signature"),
    "kid is a path": (lambda a, i, _: i.token(a, headers={"kid": "../../../dev/null"}), "unknown_key"),
    "kid is a URL": (lambda a, i, f: i.token(a, headers={"kid": f.url + KEYS}), "unknown_key"),
    "kid is unknown": (lambda a, i, _: i.token(a, headers={"kid": "key-2"}), "unknown_key"),
    "crit": (lambda a, i, _: i.token(a, headers={"crit": ["exp"], "exp": NOW}), "header"),
    "crit that the library knows": (lambda a, i, _: with_b64(a, i), "header"),
    "an ID token's sibling": (lambda a, i, _: i.token(a, headers={"typ": "logout+jwt"}), "header"),
    "a token of another issuer": (lambda a, _, f: f.token(a), "signature"),
    "another issuer with our key": (lambda a, i, f: i.token(a, iss=f.url), "issuer"),
    "the issuer with a slash": (lambda a, i, _: i.token(a, iss=i.url + "/"), "issuer"),
    "no issuer": (lambda a, i, _: i.token(a, iss=None), "claims"),
    "another audience": (lambda a, i, _: i.token("https://another.example/mcp"), "audience"),
    "the audience with a slash": (lambda a, i, _: i.token(a + "/"), "audience"),
    "the audience's beginning": (lambda a, i, _: i.token(a.removesuffix("/mcp")), "audience"),
    "no audience": (lambda a, i, _: i.token(a, aud=None), "audience"),
    "no exp": (lambda a, i, _: i.token(a, exp=None), "claims"),
    "exp in ten years": (lambda a, i, _: i.token(a, exp=NOW + 3650 * DAY), "lifetime"),
    "exp in ten years, issued then": (lambda a, i, _: i.token(a, exp=NOW + 3650 * DAY, iat=NOW + 3649 * DAY), "claims"),
    "exp is infinite": (lambda a, i, _: i.token(a, exp=float("inf")), "claims"),
    "exp is beyond all arithmetic": (lambda a, i, _: i.token(a, exp=10**400, iat=NOW - 0.5), "claims"),
    "exp is not a number": (lambda a, i, _: i.token(a, exp=float("nan")), "claims"),
    "exp is text": (lambda a, i, _: i.token(a, exp=str(NOW + 7200)), "claims"),
    "exp is true": (lambda a, i, _: i.token(a, exp=True), "claims"),
    "expired": (lambda a, i, _: i.token(a, exp=NOW - 60), "expired"),
    "no iat": (lambda a, i, _: i.token(a, iat=None), "claims"),
    "nbf in an hour": (lambda a, i, _: i.token(a, nbf=NOW + 3600), "claims"),
    "no subject": (lambda a, i, _: i.token(a, sub=None), "subject"),
    "a subject that forges a line": (lambda a, i, _: i.token(a, sub="alice\nroot"), "subject"),
    "claims are a list": (lambda a, i, _: by_hand({"alg": "ES256", "kid": "key-1"}, [], b""), "signature"),
    "claims nest too deeply": (
        lambda a, i, _: by_hand({"alg": "ES256", "kid": "key-1"}, b"[" * 2900 + b"]" * 2900),
        "signature",
    ),
    "encrypted": (lambda a, i, _: "e30.e30.e30.e30.e30", "unknown"),
    "half a token": (lambda a, i, _: i.token(a).rpartition(".")[0], "unknown"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_forged_or_borrowed_token_opens_no_route(
    server: RunningServer, issuer: Issuer, foreign: Issuer, attack: str
) -> None:
    forge, reason = ATTACKS[attack]
    token = forge(audience(server), issuer, foreign)
    served = [route.path for route in create_app(server.settings, SERVER).routes if isinstance(route, Route)]
    for path in (*served, "/nothing"):
        is_mcp = path == "/mcp"
        headers = (JSON, ACCEPT, bearer(token)) if is_mcp else (bearer(token),)
        answer = send(server, "POST" if is_mcp else "GET", path, headers, LIST_TOOLS if is_mcp else b"")
        if WELL_KNOWN in path:  # where a client with such a token finds the issuer
            assert answer.status == 200
            continue
        assert answer.status == 401, path
        assert not any(tool.__name__ in answer.text for tool in TOOLS)
        assert reason not in answer.text
        assert 'error="invalid_token"' in (answer.header("WWW-Authenticate") or "")
    event = server.events("authentication_failed")[0]
    assert event["details"]["reason"] == reason
    assert token not in json.dumps(event)
    assert foreign.requests == [], "a place in the token was visited"


def test_a_good_token_opens_the_door_so_the_refusals_mean_something(server: RunningServer, issuer: Issuer) -> None:
    good = bearer(issuer.token(audience(server)))
    assert send(server, "POST", "/mcp", (JSON, ACCEPT, good), LIST_TOOLS).status == 200
    for order in ([good, bearer("wrong")], [bearer("wrong"), good], [good, good]):
        assert send(server, "POST", "/mcp", (JSON, ACCEPT, *order), LIST_TOOLS).status == 400


def test_a_token_in_the_query_string_is_not_looked_at(server: RunningServer, issuer: Issuer) -> None:
    token = issuer.token(audience(server))
    for name in ("access_token", "token", "authorization"):
        assert send(server, "POST", f"/mcp?{name}={token}", (JSON, ACCEPT), LIST_TOOLS).status == 401


def test_a_flood_of_unknown_kids_does_not_become_a_flood_of_fetches(issuer: Issuer) -> None:
    with running_server(**oauth(issuer.url), max_failed_auth_per_minute=10_000) as server:
        issuer.requests.clear()
        for number in range(50):
            token = issuer.token(audience(server), headers={"kid": f"made-up-{number}"})
            assert send(server, "GET", "/health", [bearer(token)]).status == 401
        assert issuer.fetches == 1


def test_a_token_ends_when_it_ends_though_it_was_found_good_before(issuer: Issuer) -> None:
    """The verdict is remembered, but not for longer than the token lives (and half a minute for clocks that differ)."""
    with running_server(**oauth(issuer.url)) as server:
        token = issuer.token(audience(server), exp=int(time.time()) - 28, scope="events:read")
        assert send(server, "GET", "/security/events", [bearer(token)]).status == 200
        wait_until(lambda: send(server, "GET", "/security/events", [bearer(token)]).status == 401, seconds=4)


def test_while_the_issuer_is_unavailable_a_forged_token_is_still_a_401(issuer: Issuer) -> None:
    with running_server(**oauth(f"http://127.0.0.1:{free_port()}")) as server:
        for attack in ("alg none", "the public key as HMAC secret", "crit"):
            token = ATTACKS[attack][0](audience(server), issuer, issuer)
            assert send(server, "GET", "/security/events", [bearer(token)]).status == 401
        assert send(server, "GET", "/security/events", [bearer(issuer.token(audience(server)))]).status == 503


def test_a_wrong_key_is_not_shown_to_the_authorization_server(issuer: Issuer, foreign: Issuer) -> None:
    """Opaque tokens are sent to the introspection endpoint. API keys and JWTs are none, however wrong they are."""
    with running_server(**introspection(issuer), max_failed_auth_per_minute=10_000) as server:
        issuer.shown.clear()
        forged = [forge(audience(server), issuer, foreign) for forge, _ in ATTACKS.values()]
        wrong = ["mcp_abc", "mcp_0123456789_" + "a" * 49, "mcp_", *(token for token in forged if token.count(".") == 2)]
        for token in wrong:
            assert send(server, "GET", "/security/events", [bearer(token)]).status == 401
        assert issuer.shown == []
        assert send(server, "GET", "/security/events", [bearer("opaque")]).status == 401
        assert issuer.shown == ["opaque"]


MARKED = f"mcp_{new_secret()}"


@pytest.mark.parametrize(
    "configured",
    [MARKED, new_secret(), secrets.token_hex(32), base64.b64encode(os.urandom(33)).decode(), new_secret() + "="],
    ids=["with prefix", "url-safe", "hexadecimal", "base64", "padded"],
)
def test_no_key_is_shown_to_the_authorization_server(issuer: Issuer, configured: str) -> None:
    """A key that was rotated, mistyped or made for another server looks like an opaque token, and may open a door."""
    made = new_key(new_id())
    env_keys = [f"mcp_{new_secret()}", f"MCP_{new_secret()}", f"mcp_{new_secret()}=", f"x{MARKED}", MARKED[:20]]
    mistyped = [configured[1:], configured[:-1], configured + "x"]
    marked = [made, made.upper(), f"x{made}", f"{made}{made}", made[:-1], made[:30], "MCP_" + "a" * 20]
    if configured == MARKED:
        rotated = [configured.swapcase(), configured[:4] + configured[:3:-1], configured[2:], configured[4:]]
        secret = configured.removeprefix("mcp_")
        for place in (0, 1, len(secret) // 2, len(secret) - 1):  # the prefix left out, and a second error
            before, after = secret[:place], secret[place + 1 :]
            rotated += [before + after, f"{before}~{after}", f"{before}~{secret[place:]}", before + after.upper()]
    else:  # a key of before the prefix, as those are that it has replaced
        rotated = [
            ("a" if configured[0] != "a" else "b") + configured[1:],
            configured[::-1].strip("="),
            configured.swapcase(),
        ]
    with running_server(**introspection(issuer), api_key=configured, max_failed_auth_per_minute=10_000) as server:
        issuer.shown.clear()
        for key in (*env_keys, *rotated, *mistyped, *marked):
            assert send(server, "GET", "/mcp", [bearer(key)]).status == 401, key
        assert issuer.shown == []
        events = server.get("/security/events", headers={"Authorization": f"Bearer {configured}"}).json()["events"]
        assert "key_form" in {event["details"]["reason"] for event in events}


def test_a_key_of_the_keys_file_without_its_prefix_is_not_shown(issuer: Issuer, tmp_path: Path) -> None:
    """Only its digest is known here. Its id says that it is one."""
    path = tmp_path / "keys.json"
    secret = add_key(path).removeprefix("mcp_")
    with running_server(**introspection(issuer), keys_file=path, max_failed_auth_per_minute=10_000) as server:
        issuer.shown.clear()
        for key in (secret, secret[:-1], f"p_{secret}", secret.upper()):
            assert send(server, "GET", "/mcp", [bearer(key)]).status == 401
        assert issuer.shown == []
        send(server, "GET", "/mcp", [bearer("a_token_of_the_issuer")])
        assert issuer.shown == ["a_token_of_the_issuer"]


def test_no_key_of_before_is_shown_where_no_key_is_configured(issuer: Issuer) -> None:
    with running_server(**introspection(issuer), api_key=None) as server:
        issuer.shown.clear()
        assert send(server, "GET", "/mcp", [bearer(MARKED)]).status == 401
        assert issuer.shown == []


@pytest.mark.parametrize("configured", [None, MARKED, new_secret()], ids=["no key", "with prefix", "older form"])
def test_opaque_tokens_of_every_length_are_accepted_except_that_of_a_key_without_prefix(
    issuer: Issuer, configured: str | None
) -> None:
    """Those of node oidc-provider and Doorkeeper have 43 characters, as keys had before they got a prefix."""
    lengths = (1, 20, 32, 41, 42, 43, 44, 45, 47, 64, 86, 128, 2048)
    held_back = () if configured is None or configured == MARKED else (42, 43, 44)
    with running_server(**introspection(issuer), api_key=configured) as server:
        active = {"sub": "alice", "aud": audience(server)}
        issuer.opaque = {secrets.token_hex(1024)[:length]: active for length in lengths}
        statuses = {len(token): post_list(server, token) for token in issuer.opaque}
        assert statuses == dict.fromkeys(lengths, 200) | dict.fromkeys(held_back, 401)
        assert post_list(server, new_key(new_id())) == 401


# --- a shared address ---


def test_wrong_tokens_do_not_lock_out_a_jwt_of_the_same_address(issuer: Issuer, foreign: Issuer) -> None:
    with running_server(**oauth(issuer.url), max_failed_auth_per_minute=3) as server:
        statuses = [post_list(server, foreign.token(audience(server))) for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert [post_list(server, issuer.token(audience(server))) for _ in range(3)] == [200] * 3


def test_wrong_tokens_do_not_lock_out_an_opaque_one_that_was_good_before(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The issuer is asked again, as the verdict has ended; and not about a token that it does not know."""
    monkeypatch.setattr(introspecting, "_REMEMBERED", 0.0)
    with running_server(**introspection(issuer), max_failed_auth_per_minute=3) as server:
        issuer.opaque = {"good": {"sub": "alice", "aud": audience(server)}}
        issuer.shown.clear()
        assert post_list(server, "good") == 200
        assert [post_list(server, f"wrong-{number}") for number in range(6)] == [401] * 3 + [429] * 3
        assert [post_list(server, "good") for _ in range(5)] == [200] * 5
        assert issuer.shown == ["good", "wrong-0", "wrong-1", "wrong-2", *["good"] * 5]
        issuer.opaque.clear()
        assert [post_list(server, "good") for _ in range(3)] == [429] * 3
        assert issuer.shown.count("good") == 7, "once good, it is asked about once more"


def post_list(server: RunningServer, token: str) -> int:
    """List the tools with a token, and return the status."""
    return send(server, "POST", "/mcp", (JSON, ACCEPT, bearer(token)), LIST_TOOLS).status
