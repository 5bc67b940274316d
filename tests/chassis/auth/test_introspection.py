"""Opaque tokens: what the issuer says of them is believed only as far as it goes (RFC 7662)."""

import base64
import json
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from mcp_chassis.auth.oauth import introspection, rules, verdict_cache
from mcp_chassis.auth.oauth.introspection import IntrospectionVerifier
from mcp_chassis.auth.oauth.jwks import IssuerUnavailable
from mcp_chassis.auth.oauth.rules import Rules
from mcp_chassis.auth.principal import Principal
from mcp_chassis.auth.verifier import InvalidCredential
from mcp_chassis.sinks import Fetched, SafeFetcher, UpstreamError

pytestmark = pytest.mark.anyio

ISSUER = "https://login.example.com"
AUDIENCE = "https://mcp.example.com/mcp"
NOW = int(time.time())
GOOD: dict[str, Any] = {
    "active": True,
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "alice",
    "scope": "notes:read *",
    "exp": NOW + 7200,
    "token_type": "Bearer",
}
KEY_LIKE = "as-a-key"


class Issuer(SafeFetcher):
    """Answers instead of the network, and remembers what it was asked."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        claims = {name: value for name, value in (GOOD | changes).items() if value is not None}
        self.body, self.status = json.dumps(claims).encode(), 200
        self.asked: list[tuple[str, Mapping[str, str], bytes]] = []
        self.open = self.most_open = 0

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Fetched:
        self.asked.append((f"{method} {url}", headers or {}, content or b""))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await anyio.lowlevel.checkpoint()
        self.open -= 1
        if self.status == 0:
            raise UpstreamError("the server does not answer")
        return Fetched(self.status, {}, self.body, url)


def verifier(issuer: Issuer, client_id: str = "mcp") -> IntrospectionVerifier:
    return IntrospectionVerifier(
        url=f"{ISSUER}/introspect",
        client_id=client_id,
        client_secret="s3cret of us",
        rules=Rules(issuer=ISSUER, audience=AUDIENCE),
        fetcher=issuer,
        may_be_key=lambda token: token == KEY_LIKE,
    )


async def reason(**changes: Any) -> str:
    with pytest.raises(InvalidCredential) as refusal:
        await verifier(Issuer(**changes)).verify("token")
    return refusal.value.reason


async def test_a_good_token_stands_for_its_subject_and_the_star_is_never_theirs_to_give() -> None:
    principal = await verifier(Issuer()).verify("token")
    assert principal == Principal("oauth:alice", "oauth", frozenset({"notes:read"}))


async def test_the_question_is_a_form_from_a_known_client() -> None:
    issuer = Issuer()
    await verifier(issuer, "an id:with a colon").verify("abc+/==")
    ((line, headers, form),) = issuer.asked
    assert line == f"POST {ISSUER}/introspect"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    user = base64.b64decode(headers["authorization"].removeprefix("Basic "))
    assert user == b"an+id%3Awith+a+colon:s3cret+of+us"
    assert parse_qs(form.decode()) == {"token": ["abc+/=="], "token_type_hint": ["access_token"]}


async def test_a_token_without_a_person_stands_for_its_client() -> None:
    assert (await verifier(Issuer(sub=None, client_id="ci")).verify("token")).id == "oauth:ci"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"active": False}, "inactive"),
        ({"active": None}, "inactive"),
        ({"active": "true"}, "inactive"),
        ({"active": 1}, "inactive"),
        ({"aud": None}, "audience"),
        ({"aud": "https://another.example/mcp"}, "audience"),
        ({"aud": AUDIENCE + "/"}, "audience"),
        ({"aud": [AUDIENCE + "x", "y"]}, "audience"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"exp": NOW - 60}, "expired"),
        ({"exp": "never"}, "claims"),
        ({"exp": 10**400}, "claims"),
        ({"exp": -1}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": float("nan")}, "claims"),
        ({"nbf": NOW + 7200}, "claims"),
        ({"nbf": float("nan")}, "claims"),
        ({"token_type": "refresh_token"}, "token_type"),
        ({"sub": ""}, "subject"),
        ({"sub": 7}, "subject"),
        ({"sub": "alice\nforged line"}, "subject"),
        ({"sub": None}, "subject"),
    ],
)
async def test_active_is_not_enough(changes: dict[str, Any], expected: str) -> None:
    assert await reason(**changes) == expected


@pytest.mark.parametrize("changes", [{"aud": ["x", AUDIENCE]}, {"iss": None}, {"exp": None}, {"token_type": None}])
async def test_what_is_optional_may_be_missing(changes: dict[str, Any]) -> None:
    assert (await verifier(Issuer(**changes)).verify("token")).id == "oauth:alice"


async def test_a_good_verdict_is_remembered_for_half_a_minute_and_never_longer_than_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    issuer = Issuer(exp=None)
    judge = verifier(issuer)
    for _ in range(5):
        await judge.verify("token")
    assert len(issuer.asked) == 1
    await judge.verify("token2")
    assert len(issuer.asked) == 2
    known = judge._verdicts.get("token")
    assert known is not None
    assert known.until <= time.time() + 30
    ended = int(time.time()) - 10
    short = verifier(Issuer(exp=ended))
    await short.verify("token")
    known = short._verdicts.get("token")
    assert known is not None
    assert known.until == ended + 30


async def test_a_token_ends_at_its_end_and_begins_at_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both with the half minute that clocks may differ by. `exp` is the first moment of the end (RFC 7519)."""
    clock = SimpleNamespace(time=lambda: float(NOW), monotonic=time.monotonic)
    for module in (introspection, rules):
        monkeypatch.setattr(module, "time", clock)
    assert await reason(exp=NOW - 30) == "expired"
    assert await reason(nbf=NOW + 31) == "claims"
    for changes in ({"exp": NOW - 29}, {"nbf": NOW + 30}):
        assert (await verifier(Issuer(**changes)).verify("token")).id == "oauth:alice"


async def test_what_may_be_a_key_is_not_asked_about() -> None:
    issuer = Issuer()
    with pytest.raises(InvalidCredential) as refusal:
        await verifier(issuer).verify(KEY_LIKE)
    assert (refusal.value.reason, issuer.asked) == ("key_form", [])


async def test_a_token_that_was_good_once_is_no_guess_when_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspection, "_REMEMBERED", 0.0)
    issuer = Issuer()
    judge = verifier(issuer)
    assert judge.asks_elsewhere("token")
    await judge.verify("token")
    issuer.status = 0
    with pytest.raises(IssuerUnavailable):
        await judge.verify("token")
    assert not judge.asks_elsewhere("token"), "no answer is no verdict"
    judge._again_at = 0.0
    issuer.status, issuer.body = 200, b'{"active": false}'
    outcomes = []
    for _ in range(2):
        with pytest.raises(InvalidCredential) as refusal:
            await judge.verify("token")
        outcomes.append((refusal.value.whose, refusal.value.was_good))
    assert outcomes == [("oauth:alice", True), (None, False)]
    assert judge.asks_elsewhere("token")


@pytest.mark.parametrize("is_active", [True, False])
async def test_of_many_requests_with_one_known_token_one_asks(monkeypatch: pytest.MonkeyPatch, is_active: bool) -> None:
    issuer = Issuer()
    judge = verifier(issuer)
    await judge.verify("token")
    monkeypatch.setattr(verdict_cache, "time", SimpleNamespace(time=lambda: time.time() + 31))
    monkeypatch.setattr(judge, "_at_once", anyio.CapacityLimiter(1))
    issuer.asked.clear()
    issuer.body = json.dumps(GOOD | {"active": is_active}).encode()
    found = []

    async def ask() -> None:
        try:
            found.append((await judge.verify("token")).id)
        except InvalidCredential as error:
            found.append(f"{error.reason} {error.whose}")

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask)
    assert len(issuer.asked) == 1
    assert found == ["oauth:alice" if is_active else "inactive oauth:alice"] * 50


async def test_a_bad_verdict_is_not_remembered() -> None:
    issuer = Issuer(active=False)
    judge = verifier(issuer)
    for _ in range(2):
        with pytest.raises(InvalidCredential):
            await judge.verify("token")
    assert len(issuer.asked) == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [(0, b""), (401, b"{}"), (302, b"{}"), (500, b""), (200, b"not JSON"), (200, b"[]"), (200, b"[" * 100_000)],
)
async def test_no_answer_is_no_verdict_and_the_next_question_waits(
    status: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer()
    issuer.status, issuer.body = status, body
    judge = verifier(issuer)
    with capture_logs() as logged:
        for number in range(50):
            with pytest.raises(IssuerUnavailable):
                await judge.verify(f"token-{number}")
    assert len(issuer.asked) == 1, "an issuer in trouble is not to be flooded"
    assert len(logged) == 1
    assert not any(secret in str(logged) for secret in ("token-0", "s3cret"))
    monkeypatch.setattr(introspection, "_COOL_DOWN", 0.0)
    judge._again_at = 0.0
    issuer.status, issuer.body = 200, json.dumps(GOOD).encode()
    assert (await judge.verify("token")).id == "oauth:alice"


@pytest.mark.parametrize("status", [400, 413, 414, 422])
async def test_a_token_that_the_issuer_chokes_on_is_not_an_outage_for_others(status: int) -> None:
    """Otherwise any client could keep all others out, with one such token every five seconds."""
    issuer = Issuer()
    issuer.status = status
    judge = verifier(issuer)
    with pytest.raises(InvalidCredential) as refusal:
        await judge.verify("~/../~")
    assert refusal.value.reason == "refused"
    issuer.status = 200
    assert (await judge.verify("token")).id == "oauth:alice"


async def test_a_flood_of_tokens_asks_a_few_questions_at_a_time() -> None:
    issuer = Issuer()
    judge = verifier(issuer)
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(judge.verify, f"token-{number}")
    assert len(issuer.asked) == 100
    assert issuer.most_open <= 10
