"""Guessing the key: an address that keeps presenting wrong credentials is refused before they are looked at."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mcp_chassis.auth.keys.api_key import ApiKeyVerifier
from mcp_chassis.auth.principal import Principal

from ..support.running import RunningServer, running_server
from .wire import Header, forwarded_for, key_of, send

WRONG: Header = ("Authorization", "Bearer invalid-key")
EVENTS = "/security/events"


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server with a penalty box of its own size, whose peer is not a proxy."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[RunningServer]:
    """A server that believes its peer, so that every test can come from an address of its own."""
    with running_server(trusted_proxies="127.0.0.1") as running:
        yield running


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token that was compared with the key."""
    tokens: list[str] = []
    verify = ApiKeyVerifier.verify

    async def spy(self: ApiKeyVerifier, token: str) -> Principal:
        tokens.append(token)
        return await verify(self, token)

    monkeypatch.setattr(ApiKeyVerifier, "verify", spy)
    return tokens


def guess(server: RunningServer, times: int, *more: Header) -> list[int]:
    """Present a wrong key so many times."""
    return [send(server, "GET", EVENTS, [WRONG, *more]).status for _ in range(times)]


def test_after_ten_wrong_keys_not_even_the_right_one_is_looked_at(server: RunningServer, looked_at: list[str]) -> None:
    assert guess(server, 10) == [401] * 10
    assert len(looked_at) == 10
    answer = send(server, "GET", EVENTS, [key_of(server)])
    assert answer.status == 429
    assert int(answer.header("Retry-After") or 0) >= 1
    assert answer.header("Content-Type") == "application/problem+json"
    assert len(looked_at) == 10, "the credential was looked at"


def test_guessing_leaves_events(behind_proxy: RunningServer) -> None:
    guess(behind_proxy, 12, forwarded_for("192.0.2.1"))
    mine = [event for event in behind_proxy.events() if event["identifier"] == "192.0.2.1"]
    assert [(event["event"], event["severity"]) for event in mine] == [
        *[("rate_limit_exceeded", "medium")] * 2,
        *[("authentication_failed", "high")] * 10,
    ]
    assert mine[0]["details"]["reason"] == "wrong_credentials"


def test_guessing_on_a_public_route_counts_as_well(server: RunningServer) -> None:
    statuses = [send(server, "GET", path, [WRONG]).status for path in ("/health", "/livez") for _ in range(6)]
    assert statuses == [401] * 10 + [429] * 2


def test_guessing_with_malformed_credentials_counts_as_well(server: RunningServer, looked_at: list[str]) -> None:
    basic: Header = ("Authorization", "Basic YWRtaW46YWRtaW4=")
    for credentials in ([WRONG, key_of(server)], [basic]):
        for _ in range(5):
            send(server, "GET", EVENTS, credentials)
    assert send(server, "GET", EVENTS, [key_of(server)]).status == 429
    assert looked_at == []


def test_guessing_in_parallel_is_not_faster(server: RunningServer, looked_at: list[str]) -> None:
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: guess(server, 1)[0], range(60)))
    assert set(statuses) == {401, 429}
    assert len(looked_at) <= 12


def test_missing_credentials_do_not_lock_anybody_out(server: RunningServer) -> None:
    """Real clients ask once without a key, to learn how to authenticate."""
    assert {send(server, "GET", EVENTS).status for _ in range(30)} == {401}
    assert send(server, "GET", EVENTS, [key_of(server)]).status == 200


def test_one_address_cannot_lock_out_another(behind_proxy: RunningServer) -> None:
    assert guess(behind_proxy, 11, forwarded_for("192.0.2.2"))[-1] == 429
    assert send(behind_proxy, "GET", EVENTS, [key_of(behind_proxy), forwarded_for("192.0.2.3")]).status == 200


def test_an_invented_x_forwarded_for_does_not_evade(server: RunningServer) -> None:
    statuses = [guess(server, 1, forwarded_for(f"203.0.113.{number}"))[0] for number in range(20)]
    assert statuses == [401] * 10 + [429] * 10


def test_a_forged_left_entry_does_not_evade_behind_a_proxy(behind_proxy: RunningServer) -> None:
    claims = [forwarded_for(f"198.51.100.{number}, 192.0.2.4") for number in range(20)]
    assert [guess(behind_proxy, 1, claim)[0] for claim in claims] == [401] * 10 + [429] * 10


def test_the_addresses_of_one_ipv6_customer_are_one_guesser(behind_proxy: RunningServer) -> None:
    claims = [forwarded_for(f"2001:db8:1:2::{number:x}") for number in range(20)]
    assert [guess(behind_proxy, 1, claim)[0] for claim in claims] == [401] * 10 + [429] * 10
