"""Who may still ask, and what the answer says of it."""

import pytest

from mcp_chassis.auth.principal import ANONYMOUS, Principal
from mcp_chassis.events.log import EventLog
from mcp_chassis.limits.rate_limiter import RateLimiter
from mcp_chassis.middleware.rate_limit import RateLimitLayer

from ..support.asgi import Answer, Endpoint, ask, http_scope

pytestmark = pytest.mark.anyio

ALICE, BOB = Principal("oauth:alice", "oauth"), Principal("oauth:bob", "oauth")


class Setup:
    """The layer with a limit of two at once and six a minute."""

    def __init__(self) -> None:
        self.inner, self.events = Endpoint(headers=[(b"x-inner", b"1")]), EventLog()
        limiter = RateLimiter("test", per_minute=6, burst=2)
        self.layer = RateLimitLayer(self.inner, events=self.events, limiter=limiter, exempt=frozenset({"/livez"}))

    async def ask(self, caller: Principal | None = None, client: str = "192.0.2.1", path: str = "/mcp") -> Answer:
        return await ask(self.layer, http_scope(path), caller=caller, client=client)

    async def statuses(self, *callers: tuple[Principal | None, str]) -> list[int]:
        return [(await self.ask(caller, client)).status for caller, client in callers]


async def test_an_answer_says_how_much_is_left() -> None:
    answer = await Setup().ask()
    assert answer.status == 200
    assert answer.header("ratelimit-policy") == '"default";q=6;w=60'
    assert answer.header("ratelimit") == '"default";r=1;t=10'
    assert answer.header("retry-after") is None
    assert answer.header("x-inner") == "1"


async def test_too_many_requests_get_a_retry_after() -> None:
    setup = Setup()
    for _ in range(2):
        await setup.ask()
    answer = await setup.ask()
    assert answer.status == 429
    assert answer.header("retry-after") == "10"
    assert answer.header("ratelimit") == '"default";r=0;t=10'
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json()["detail"] == "Too many requests. Wait for the number of seconds in Retry-After."
    assert setup.inner.calls == 2
    (event,) = setup.events.recent()
    assert (event["event"], event["identifier"]) == ("rate_limit_exceeded", "192.0.2.1")


async def test_a_principal_is_counted_wherever_it_calls_from() -> None:
    calls = [(ALICE, "192.0.2.1"), (ALICE, "192.0.2.2"), (ALICE, "192.0.2.3"), (BOB, "192.0.2.1"), (None, "192.0.2.1")]
    assert await Setup().statuses(*calls) == [200, 200, 429, 200, 200]


async def test_without_a_principal_the_address_is_counted() -> None:
    calls: list[tuple[Principal | None, str]] = [(None, "2001:db8::1"), (None, "2001:db8::2"), (None, "2001:db8::3")]
    assert await Setup().statuses(*calls, (None, "2001:db8:1::1")) == [200, 200, 429, 200]


async def test_anonymous_callers_are_not_one_caller() -> None:
    calls = [(ANONYMOUS, "192.0.2.1"), (ANONYMOUS, "192.0.2.1"), (ANONYMOUS, "192.0.2.1"), (ANONYMOUS, "192.0.2.2")]
    assert await Setup().statuses(*calls) == [200, 200, 429, 200]


async def test_a_principal_cannot_be_named_like_an_address() -> None:
    setup = Setup()
    posing = Principal("address:192.0.2.1", "oauth")
    assert await setup.statuses((posing, "192.0.2.9"), (posing, "192.0.2.9"), (posing, "192.0.2.9")) == [200, 200, 429]


async def test_probes_are_never_limited() -> None:
    setup = Setup()
    answers = [await setup.ask(path="/livez") for _ in range(10)]
    assert {answer.status for answer in answers} == {200}
    assert answers[-1].header("ratelimit") is None
    assert (await setup.ask()).status == 200
