"""Opaque tokens: what the issuer says of them is believed only as far as it goes (RFC 7662)."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from mcp_chassis.auth.oauth import introspection
from mcp_chassis.auth.oauth.introspection import IntrospectionVerifier
from mcp_chassis.auth.oauth.jwks import IssuerUnavailable
from mcp_chassis.auth.principal import Principal
from mcp_chassis.auth.verifier import InvalidCredential
from mcp_chassis.sinks import Fetched, FetchError, SafeFetcher

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
            raise FetchError("the server does not answer")
        return Fetched(self.status, {}, self.body, url)


def verifier(issuer: Issuer, client_id: str = "mcp") -> IntrospectionVerifier:
    return IntrospectionVerifier(
        f"{ISSUER}/introspect",
        client_id=client_id,
        client_secret="s3cret of us",
        issuer=ISSUER,
        audience=AUDIENCE,
        fetcher=issuer,
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
    """Otherwise anybody could keep everybody else out, with one such token every five seconds."""
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
