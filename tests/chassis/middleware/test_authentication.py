"""Finding out which caller it is, and what wrong credentials cost their address."""

from typing import Any

import anyio
import pytest

from mcp_chassis.auth.keys.records import default_record
from mcp_chassis.auth.keys.verifier import KeyVerifier
from mcp_chassis.auth.oauth.introspection import IntrospectionVerifier
from mcp_chassis.auth.oauth.jwks import IssuerUnavailable
from mcp_chassis.auth.oauth.rules import Rules
from mcp_chassis.auth.principal import ANONYMOUS, Principal
from mcp_chassis.auth.verifier import InvalidCredential, Unavailable, Verifier
from mcp_chassis.events.log import EventLog
from mcp_chassis.limits.lockout import FailedAttempts
from mcp_chassis.middleware import authentication
from mcp_chassis.sinks import Fetched, SafeFetcher

from ..support.asgi import Answer, Endpoint, ask, http_scope

pytestmark = pytest.mark.anyio

KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"
ALICE = Principal("oauth:alice", "oauth")
OF_X: dict[str, Any] = {
    **dict.fromkeys(("url", "client_id", "client_secret"), "x"),
    "rules": Rules(issuer="x", audience="x"),
}


class KnowsAlice(Verifier):
    """A second verifier, asked after the key's."""

    async def verify(self, token: str) -> Principal:
        if token == "unavailable":
            raise IssuerUnavailable
        if token == "bob":
            raise InvalidCredential("revoked", Principal("key:bob", "key", name="bob"))
        if token != "alice":
            raise InvalidCredential("expired")
        return ALICE


class NeverAsked(Verifier):
    """A verifier behind the one whose kind of token it is."""

    async def verify(self, token: str) -> Principal:
        raise AssertionError(f"was shown {token}")


class Setup:
    """The layer with everything around it."""

    def __init__(self, *, anonymous: Principal | None = None, failures: int = 3, last: Verifier | None = None) -> None:
        self.inner, self.events = Endpoint(), EventLog()
        self.layer = authentication.AuthenticationLayer(
            self.inner,
            events=self.events,
            verifiers=[
                KeyVerifier(dict, default=default_record(KEY)),
                *([last] if last else [KnowsAlice(), NeverAsked()]),
            ],
            failures=FailedAttempts(per_minute=failures, overall_per_minute=100),
            challenge='Bearer realm="mcp"',
            anonymous=anonymous,
        )

    async def ask(self, *credentials: str, client: str = "192.0.2.1") -> Answer:
        headers = [(b"authorization", credential.encode()) for credential in credentials]
        return await ask(self.layer, http_scope("/mcp", headers=headers), client=client)

    @property
    def reasons(self) -> list[Any]:
        return [event["details"]["reason"] for event in self.events.recent()]


async def test_whose_credential_it_was_is_in_the_event_and_nowhere_else() -> None:
    setup = Setup()
    answer = await setup.ask("Bearer bob")
    assert b"bob" not in answer.body
    (event,) = setup.events.recent()
    assert (event["identifier"], event["details"]["reason"]) == ("key:bob", "revoked")
    assert event["details"]["client"] == "192.0.2.1"


async def test_no_credential_reaches_the_layers_behind() -> None:
    """A tool could pass it on to another service (MCP, Security Best Practices, token passthrough)."""
    setup = Setup()
    names = (b"authorization", b"proxy-authorization", b"cookie", b"x-api-key")
    others = [(b"host", b"a.example"), (b"x", b"cookie")]
    values = (f"Bearer {KEY}".encode(), b"Basic a", b"a=b", b"a")
    headers = [*others, *zip(names, values, strict=True)]
    assert (await ask(setup.layer, http_scope("/mcp", headers=headers))).status == 200
    assert setup.inner.scopes[0]["headers"] == others


async def test_the_first_verifier_that_knows_the_token_decides() -> None:
    setup = Setup()
    assert (await setup.ask(f"Bearer {KEY}")).status == 200
    assert (await setup.ask("Bearer alice")).status == 200
    assert [caller and caller.id for caller in setup.inner.principals] == ["key:default", "oauth:alice"]
    assert setup.reasons == []


async def test_without_a_credential_the_next_layers_decide() -> None:
    setup = Setup()
    assert (await setup.ask()).status == 200
    assert setup.inner.principals == [None]


async def test_a_wrong_credential_is_a_401_that_says_so_and_an_event_that_does_not_show_it() -> None:
    setup = Setup()
    answer = await setup.ask("Bearer wrong-key-of-mine")
    assert answer.status == 401
    assert answer.header("www-authenticate") == 'Bearer realm="mcp", error="invalid_token"'
    assert answer.json()["detail"] == "The credential is not valid."
    assert setup.inner.calls == 0
    (event,) = setup.events.recent()
    assert event["event"] == "authentication_failed"
    assert event["details"]["reason"] == "expired", "the reason of the verifier that decided"
    assert "wrong-key-of-mine" not in repr(event)


@pytest.mark.parametrize("credential", ["Basic YTpi", "Bearer", "Bearer a b", "Bearer ключ"])
async def test_a_malformed_credential_is_a_wrong_one(credential: str) -> None:
    setup = Setup()
    assert (await setup.ask(credential)).status == 401
    assert setup.reasons == ["malformed"]


async def test_two_credentials_are_a_400_even_if_one_is_right() -> None:
    setup = Setup()
    assert (await setup.ask(f"Bearer {KEY}", f"Bearer {KEY}")).status == 400
    assert setup.inner.calls == 0
    assert setup.reasons == ["ambiguous"]


async def test_while_the_issuer_is_unavailable_it_is_a_503_and_no_failed_attempt() -> None:
    setup = Setup(failures=1)
    for _ in range(3):
        answer = await setup.ask("Bearer unavailable")
        assert answer.status == 503
        assert answer.header("retry-after") == "30"
    assert setup.reasons == []


async def test_after_too_many_wrong_credentials_further_ones_get_429_and_the_right_ones_are_served() -> None:
    setup = Setup(failures=3)
    statuses = [(await setup.ask("Bearer wrong")).status for _ in range(4)]
    assert statuses == [401, 401, 401, 429]
    answer = await setup.ask("Bearer wrong")
    assert answer.header("retry-after") == "20", "three a minute is one in twenty seconds"
    assert setup.events.recent(1)[0]["event"] == "rate_limit_exceeded"
    assert setup.inner.calls == 0
    for credential in (KEY, "alice"):
        assert (await setup.ask(f"Bearer {credential}")).status == 200


async def test_a_wrong_credential_is_counted_as_allowed_or_as_refused_by_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = list[tuple[str, bool]]()

    def count(limiter: str, *, allowed: bool) -> None:
        counted.append((limiter, bool(allowed)))

    monkeypatch.setattr(authentication, "count_decision", count)
    setup = Setup(failures=1)
    for credential in ("wrong", "wrong", KEY):
        await setup.ask(f"Bearer {credential}")
    assert counted == [("wrong_credentials", True), ("wrong_credentials", False)]


@pytest.mark.parametrize(
    ("credentials", "anonymous", "results"),
    [
        ([], None, ["absent"]),
        ([], ANONYMOUS, ["anonymous"]),
        ([f"Bearer {KEY}"], None, ["accepted"]),
        ([f"Bearer {KEY}"], ANONYMOUS, ["accepted"]),
        (["Bearer wrong"], None, ["invalid", "limited"]),
        (["Bearer wrong"], ANONYMOUS, ["anonymous", "anonymous"]),
        (["Bearer a", "Bearer b"], None, ["ambiguous", "limited"]),
        (["Bearer unavailable"], None, ["unverifiable"]),
    ],
)
async def test_every_request_is_counted_by_what_its_credential_was(
    monkeypatch: pytest.MonkeyPatch, credentials: list[str], anonymous: Principal | None, results: list[str]
) -> None:
    counted = list[str]()
    monkeypatch.setattr(authentication, "count_authentication", counted.append)
    setup = Setup(failures=1, anonymous=anonymous)
    for _ in results:
        await setup.ask(*credentials)
    assert counted == results


@pytest.mark.parametrize(
    ("credentials", "is_guess"),
    [(["Bearer wrong"], False), (["Bearer bob"], False), (["Basic wrong"], True), (["Bearer a", "Bearer b"], True)],
    ids=["expired", "revoked", "malformed", "ambiguous"],
)
async def test_only_what_was_never_valid_counts_as_a_guess(
    monkeypatch: pytest.MonkeyPatch, credentials: list[str], is_guess: bool
) -> None:
    noted = list[bool]()

    async def note(self: FailedAttempts, address: str, *, guess: bool = True) -> int:
        noted.append(guess)
        return 0

    monkeypatch.setattr(FailedAttempts, "note", note)
    await Setup().ask(*credentials)
    assert noted == [is_guess]


async def test_missing_credentials_are_not_wrong_ones() -> None:
    setup = Setup(failures=1)
    for _ in range(5):
        assert (await setup.ask()).status == 200
    assert (await setup.ask(f"Bearer {KEY}")).status == 200


async def test_an_address_over_the_limit_can_still_call_without_a_credential() -> None:
    setup = Setup(failures=1)
    await setup.ask("Bearer wrong")
    assert (await setup.ask("Bearer wrong")).status == 429
    assert (await setup.ask()).status == 200


async def test_the_limit_is_for_one_address_and_an_ipv6_customer_is_one_address() -> None:
    setup = Setup(failures=1)
    clients = ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1", "192.0.2.1")
    assert [(await setup.ask("Bearer wrong", client=client)).status for client in clients] == [401, 429, 401, 401]


async def test_without_required_authentication_a_key_still_makes_a_difference() -> None:
    setup = Setup(anonymous=ANONYMOUS)
    for credentials in ([], [f"Bearer {KEY}"], ["Bearer wrong"], ["Basic x"], [f"Bearer {KEY}"] * 2):
        assert (await setup.ask(*credentials)).status == 200
    kinds = [caller and caller.kind for caller in setup.inner.principals]
    assert kinds == ["anonymous", "key", "anonymous", "anonymous", "anonymous"]


async def test_many_wrong_tokens_at_once_are_few_questions() -> None:
    """Answers of an issuer take time. Tokens that are sent in the meantime must not all be asked about."""
    answer, asked = anyio.Event(), list[str]()

    class Slow(SafeFetcher):
        async def request(self, *_: object, **__: object) -> Fetched:
            asked.append("")
            await answer.wait()
            return Fetched(200, {}, b'{"active": false}', "")

    asks = IntrospectionVerifier(**OF_X, fetcher=Slow(), may_be_key=lambda _: False)
    setup, statuses = Setup(failures=3, last=asks), list[int]()

    async def guess(number: int, client: str) -> None:
        statuses.append((await setup.ask(f"Bearer opaque-{number}", client=client)).status)

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(guess, number, "192.0.2.1")
        await anyio.wait_all_tasks_blocked()
        assert len(asked) == 5
        tasks.start_soon(guess, 100, "192.0.2.2")
        await anyio.wait_all_tasks_blocked()
        assert len(asked) == 6, "other callers wait behind them"
        assert (await setup.ask(f"Bearer {KEY}")).status == 200, "a key of the same address is not held up"
        answer.set()
    assert len(asked) <= 6 + 3
    assert set(statuses) == {401, 429}


async def test_without_required_authentication_wrong_tokens_are_few_questions_too() -> None:
    asked = list[object]()

    class Refuses(SafeFetcher):
        async def request(self, *_: object, **options: object) -> Fetched:
            asked.append(options)
            return Fetched(200, {}, b'{"active": false}', "")

    asks = IntrospectionVerifier(**OF_X, fetcher=Refuses(), may_be_key=lambda _: False)
    setup = Setup(failures=3, last=asks, anonymous=ANONYMOUS)
    assert {(await setup.ask(f"Bearer opaque-{number}")).status for number in range(20)} == {200}
    assert len(asked) == 3


async def test_other_scopes_pass() -> None:
    setup = Setup()
    await ask(setup.layer, {"type": "lifespan"})
    assert setup.inner.calls == 1


@pytest.mark.parametrize("answer", [None, ANONYMOUS, InvalidCredential("revoked"), Unavailable()], ids=repr)
async def test_an_open_stream_ends_with_its_credential_or_when_that_cannot_be_checked(answer: object) -> None:
    class Changing(Verifier):
        now: object = Principal("key:a", "key", frozenset({"a"}))

        async def verify(self, token: str) -> Principal | None:
            if isinstance(self.now, Exception):
                raise self.now
            return self.now if isinstance(self.now, Principal) else None

    verifier = Changing()
    is_valid = authentication._check(verifier, "token", Principal("key:a", "key", frozenset({"a"})))
    assert await is_valid()
    verifier.now = answer
    assert not await is_valid()
