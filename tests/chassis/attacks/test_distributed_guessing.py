"""Guessing from many addresses: it gains little, and a correct credential is served from every one of them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pytest

from ..support.keys import add_key
from ..support.running import RunningServer, running_server
from .wire import Header, forwarded_for, key_of, send

WRONG: Header = ("Authorization", "Bearer invalid-key")
EVENTS = "/security/events"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server behind a proxy, so that a test can come from many addresses."""
    with running_server(
        trusted_proxies="127.0.0.1", max_failed_auth_per_minute=10, max_failed_auth_overall=30
    ) as running:
        yield running


def test_many_addresses_together_get_few_guesses_and_others_are_served(server: RunningServer) -> None:
    bots = [f"192.0.2.{number}" for number in range(1, 41)]
    statuses = [[send(server, "GET", EVENTS, [WRONG, forwarded_for(bot)]).status for bot in bots] for _ in range(5)]
    heard = sum(row.count(401) for row in statuses)
    assert set(chain.from_iterable(statuses)) == {401, 429}
    assert heard <= 40 + 5, "one guess for every address, not ten"
    good = [send(server, "GET", EVENTS, [key_of(server), forwarded_for(f"198.51.100.{n}")]).status for n in range(20)]
    assert good == [200] * 20
    again = (send(server, "GET", EVENTS, [WRONG, forwarded_for(bots[0])]) for _ in range(20))
    refused = next(answer for answer in again if answer.status == 429)
    assert 1 <= int(refused.header("Retry-After") or 0) <= 60
    good = [send(server, "GET", EVENTS, [key_of(server), forwarded_for(bot)]).status for bot in bots]
    assert good == [200] * 40, "the key is not served from an address that has guessed"


def test_who_comes_with_a_token_that_has_expired_is_no_guesser(tmp_path: Path) -> None:
    """Tokens of all users expire. If those counted among the guesses, users would be told that they guess."""
    old = add_key(tmp_path / "keys.json", expires=datetime.now(UTC) - timedelta(days=1))
    with running_server(
        trusted_proxies="127.0.0.1", max_failed_auth_overall=10, keys_file=tmp_path / "keys.json"
    ) as server:
        user, expired = forwarded_for("198.51.100.1"), ("Authorization", f"Bearer {old}")
        assert send(server, "GET", EVENTS, [expired, user]).status == 401
        bots = [f"192.0.2.{number}" for number in range(1, 21)]
        assert {send(server, "GET", EVENTS, [WRONG, forwarded_for(bot)]).status for bot in bots} == {401}
        assert send(server, "GET", EVENTS, [WRONG, forwarded_for(bots[0])]).status == 429, "there is no flood"
        assert send(server, "GET", EVENTS, [key_of(server), user]).status == 200
        again = [send(server, "GET", EVENTS, [expired, user]).status for _ in range(11)]
        assert (again[0], again[-1]) == (401, 429), "it counts for its address"
