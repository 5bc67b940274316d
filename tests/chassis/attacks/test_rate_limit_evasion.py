"""Asking more often than allowed, by posing as many."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcp_chassis.http.routes import memory_bytes
from mcp_chassis.limits.lockout import FailedAttempts
from mcp_chassis.limits.rate_limiter import RateLimiter

from ..support.running import RunningServer, running_server
from .wire import Answer, Header, forwarded_for, key_of, send

LIMIT = 5


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server that allows five requests, and one more only after twelve seconds."""
    with running_server(max_requests_per_minute=LIMIT) as running:
        yield running


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[RunningServer]:
    """The same, believing its peer and another proxy before it: every test comes from an address of its own."""
    with running_server(max_requests_per_minute=LIMIT, trusted_proxies="127.0.0.1, 10.0.0.0/8") as running:
        yield running


def ask(server: RunningServer, *headers: Header, path: str = "/health") -> Answer:
    """Ask once."""
    return send(server, "GET", path, headers)


def statuses(server: RunningServer, header: Callable[[int], Header], times: int = 12) -> list[int]:
    """Ask so many times, each with a header of its own."""
    return [ask(server, header(number)).status for number in range(times)]


ONE_CLIENT = [200] * LIMIT + [429] * (12 - LIMIT)


def test_150_requests_in_a_row_are_cut_at_the_limit() -> None:
    with running_server(max_requests_per_minute=100) as server:
        answers = [ask(server) for _ in range(150)]
        served = [answer.status for answer in answers].index(429)
        assert 100 <= served <= 105  # a place comes back every 0.6 s
        refusal = next(answer for answer in answers if answer.status == 429)
        assert int(refusal.header("Retry-After") or 0) >= 1
        assert refusal.header("RateLimit-Policy") == '"default";q=100;w=60'
        assert (refusal.header("RateLimit") or "").startswith('"default";r=0;t=')
        assert refusal.header("Content-Type") == "application/problem+json"
        assert refusal.json()["status"] == 429


def test_a_refused_request_leaves_an_event() -> None:
    with running_server(max_requests_per_minute=LIMIT) as server:
        for _ in range(LIMIT + 1):
            ask(server)
        event = server.events("rate_limit_exceeded")[0]  # the key's owner has a bucket of its own
        assert event["identifier"] == "127.0.0.1"
        assert event["severity"] == "medium"
        assert event["details"]["path"] == "/health"


def test_probes_are_never_limited(server: RunningServer) -> None:
    for path in ("/livez", "/readyz"):
        assert {ask(server, path=path).status for _ in range(30)} == {200}


def test_a_probe_in_disguise_is_limited(server: RunningServer) -> None:
    for path in ("/livez/../health", "/livez%2f..%2fhealth", "//livez", "/livez/", "/LIVEZ", "/livez%0a"):
        ask(server, path=path)
    assert ask(server).status == 429


def test_an_untrusted_peer_cannot_pose_as_many(server: RunningServer) -> None:
    assert [ask(server).status for _ in range(LIMIT)] == [200] * LIMIT
    names = ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "CF-Connecting-IP", "True-Client-IP", "X-Request-ID")
    for name in names:
        assert set(statuses(server, lambda number, name=name: (name, f"203.0.113.{number}"))) == {429}, name  # type: ignore[misc]
    assert set(statuses(server, lambda number: ("Forwarded", f"for=203.0.113.{number}"))) == {429}


def test_wrong_keys_do_not_make_many_of_one(server: RunningServer) -> None:
    """Naive servers count by the credential that was presented, and an attacker invents one for each request."""
    seen = statuses(server, lambda number: ("Authorization", f"Bearer invented-{number}"))
    assert 200 not in seen
    assert 429 in seen


def test_forged_entries_left_of_the_last_untrusted_one_do_not_matter(behind_proxy: RunningServer) -> None:
    chain = "198.51.100.{}, 192.0.2.1, 10.1.2.3"
    assert statuses(behind_proxy, lambda number: forwarded_for(chain.format(number))) == ONE_CLIENT


def test_entries_in_several_headers_are_one_list(behind_proxy: RunningServer) -> None:
    for number in range(12):
        ask(behind_proxy, forwarded_for(f"198.51.100.{number}"), forwarded_for("192.0.2.2"))
    assert ask(behind_proxy, forwarded_for("192.0.2.2")).status == 429


def test_behind_a_trusted_proxy_each_client_has_its_own_limit(behind_proxy: RunningServer) -> None:
    assert statuses(behind_proxy, lambda number: forwarded_for(f"203.0.113.{number}")) == [200] * 12


def test_an_unreadable_entry_does_not_open_a_new_bucket(behind_proxy: RunningServer) -> None:
    assert statuses(behind_proxy, lambda number: forwarded_for(f"nonsense-{number}")) == ONE_CLIENT


def test_the_addresses_of_one_ipv6_customer_are_one_client(behind_proxy: RunningServer) -> None:
    assert statuses(behind_proxy, lambda number: forwarded_for(f"2001:db8:1:2:{number:x}::1")) == ONE_CLIENT
    assert ask(behind_proxy, forwarded_for("2001:db8:1:3::1")).status == 200


def test_an_ipv4_address_in_ipv6_clothes_is_the_same_client(behind_proxy: RunningServer) -> None:
    forms = ["192.0.2.3", "::ffff:192.0.2.3", "::ffff:c000:203", "192.0.2.3:4711", "[::ffff:192.0.2.3]:80"]
    assert statuses(behind_proxy, lambda number: forwarded_for(forms[number % len(forms)])) == ONE_CLIENT


def test_strangers_cannot_use_up_the_place_of_the_keys_owner(server: RunningServer) -> None:
    assert [ask(server).status for _ in range(LIMIT + 1)][-1] == 429
    assert ask(server, key_of(server)).status == 200


def test_the_keys_owner_has_one_limit_from_all_addresses(behind_proxy: RunningServer) -> None:
    key = key_of(behind_proxy)
    seen = [ask(behind_proxy, key, forwarded_for(f"203.0.113.{number}")).status for number in range(12)]
    assert seen == ONE_CLIENT


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see the memory of a process")
@pytest.mark.anyio
async def test_two_hundred_thousand_addresses_cost_no_more_than_thirty_thousand() -> None:
    limiter, failures = (
        RateLimiter("test", per_minute=100, burst=100),
        FailedAttempts(per_minute=5, overall_per_minute=9),
    )

    async def come(numbers: range) -> float:
        for number in numbers:
            address = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64"
            await limiter.hit(address)
            if number % 4 == 0:
                await failures.note(address)
        return (memory_bytes() or 0) / 1e6

    before = await come(range(100))
    full = await come(range(100, 100_000))
    assert full - before < 35
    assert await come(range(100_000, 200_000)) - full < 8


@pytest.mark.anyio
async def test_inventing_addresses_does_not_fill_the_memory() -> None:
    """The longest unused bucket is forgotten: that is seen from outside by its being whole again."""
    limiter = RateLimiter("test", per_minute=1, burst=1, max_keys=50)
    await limiter.hit("first")
    assert not (await limiter.hit("first")).allowed
    for number in range(60):
        await limiter.hit(f"invented-{number}")
    assert (await limiter.hit("first")).allowed
