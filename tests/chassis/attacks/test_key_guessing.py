"""Guessing the key: wrong credentials of one address are counted, and limit nothing but wrong credentials.

The correct key is served whatever else comes from its address: many callers share one (NAT, a proxy that is not named
in `TRUSTED_PROXIES`), and one of them must not be able to lock out the others.
"""

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mcp_chassis.auth.keys.format import digest, id_of, new_id, new_key

from ..support.keys import put, record_of
from ..support.running import RunningServer, running_server
from .wire import Header, forwarded_for, key_of, send

WRONG: Header = ("Authorization", "Bearer invalid-key")
EVENTS = "/security/events"


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """A server whose peer is not a proxy, so that all clients share one address."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[RunningServer]:
    """A server that believes its peer, so that every test can come from an address of its own."""
    with running_server(trusted_proxies="127.0.0.1") as running:
        yield running


def guess(server: RunningServer, times: int, *more: Header) -> list[int]:
    """Present a wrong key so many times."""
    return [send(server, "GET", EVENTS, [WRONG, *more]).status for _ in range(times)]


def test_after_ten_wrong_keys_further_ones_get_429(server: RunningServer) -> None:
    assert guess(server, 10) == [401] * 10
    answer = send(server, "GET", EVENTS, [WRONG])
    assert answer.status == 429
    assert int(answer.header("Retry-After") or 0) >= 1
    assert answer.header("Content-Type") == "application/problem+json"


def test_wrong_keys_do_not_lock_out_the_right_one_of_the_same_address(server: RunningServer) -> None:
    for _ in range(20):
        guess(server, 5)
        assert send(server, "GET", EVENTS, [key_of(server)]).status == 200
    assert guess(server, 1) == [429], "the limit was not reached"


def test_each_correct_key_is_served_while_its_address_guesses(tmp_path: Path) -> None:
    path, old = tmp_path / "keys.json", new_key(new_id())
    new = new_key(id_of(old))
    until = datetime.now(UTC) + timedelta(hours=1)
    put(path, record_of(new, scopes=("events:read",), previous_sha256=digest(old), previous_until=until))
    with running_server(keys_file=path) as server:
        guess(server, 30)
        for key in (old, new):
            assert send(server, "GET", EVENTS, [("Authorization", f"Bearer {key}")]).status == 200


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


def test_guessing_with_malformed_credentials_counts_as_well(server: RunningServer) -> None:
    malformed: tuple[list[Header], ...] = ([WRONG, key_of(server)], [("Authorization", "Basic YWRtaW46YWRtaW4=")])
    statuses = [[send(server, "GET", EVENTS, headers).status for _ in range(5)] for headers in malformed]
    assert statuses == [[400] * 5, [401] * 5]
    assert [send(server, "GET", EVENTS, headers).status for headers in malformed] == [429, 429]
    assert send(server, "GET", EVENTS, [key_of(server)]).status == 200


def test_guessing_in_parallel_is_not_faster(server: RunningServer) -> None:
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: guess(server, 1)[0], range(60)))
    assert set(statuses) == {401, 429}
    assert statuses.count(401) <= 12  # a place comes back after six seconds


def test_of_a_flood_of_different_wrong_keys_few_are_noted_as_guesses(server: RunningServer) -> None:
    started = time.monotonic()
    for _ in range(100):
        wrong = ("Authorization", f"Bearer {secrets.token_urlsafe(32)}")
        assert send(server, "GET", "/livez", [wrong]).status in {401, 429}
    guesses = sum(event["details"].get("count", 1) for event in server.events("authentication_failed"))
    assert 10 <= guesses <= 11 + (time.monotonic() - started) / 6


def test_missing_credentials_do_not_count(server: RunningServer) -> None:
    """Real clients ask once without a key, to learn how to authenticate."""
    assert {send(server, "GET", EVENTS).status for _ in range(30)} == {401}
    assert send(server, "GET", EVENTS, [key_of(server)]).status == 200


def test_each_address_has_a_limit_of_its_own(behind_proxy: RunningServer) -> None:
    assert guess(behind_proxy, 11, forwarded_for("192.0.2.2"))[-1] == 429
    assert guess(behind_proxy, 1, forwarded_for("192.0.2.3")) == [401]


def test_an_invented_x_forwarded_for_does_not_evade(server: RunningServer) -> None:
    statuses = [guess(server, 1, forwarded_for(f"203.0.113.{number}"))[0] for number in range(20)]
    assert statuses == [401] * 10 + [429] * 10


def test_a_forged_left_entry_does_not_evade_behind_a_proxy(behind_proxy: RunningServer) -> None:
    claims = [forwarded_for(f"198.51.100.{number}, 192.0.2.4") for number in range(20)]
    assert [guess(behind_proxy, 1, claim)[0] for claim in claims] == [401] * 10 + [429] * 10


def test_the_addresses_of_one_ipv6_customer_are_one_guesser(behind_proxy: RunningServer) -> None:
    claims = [forwarded_for(f"2001:db8:1:2::{number:x}") for number in range(20)]
    assert [guess(behind_proxy, 1, claim)[0] for claim in claims] == [401] * 10 + [429] * 10
