"""Coming back after an operator has shut the door: `BLOCKED_CLIENTS`."""

from collections.abc import Iterator

import pytest

from ..support.running import RunningServer, running_server
from .wire import forwarded_for, key_of, send

BLOCKED = "203.0.113.0/24, 2001:db8:bad::/48"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server that blocks two networks and believes its peer, so that a test can come from them."""
    with running_server(blocked_clients=BLOCKED, trusted_proxies="127.0.0.1") as running:
        yield running


@pytest.mark.parametrize("path", ["/mcp", "/health", "/livez", "/readyz", "/security/events", "/nothing"])
def test_a_blocked_client_gets_nothing_even_with_the_key(server: RunningServer, path: str) -> None:
    answer = send(server, "GET", path, [key_of(server), forwarded_for("203.0.113.9")])
    assert answer.status == 403
    assert "WWW-Authenticate" not in dict(answer.headers)


@pytest.mark.parametrize(
    "claim",
    [
        "203.0.113.255",
        "::ffff:203.0.113.9",
        "::ffff:cb00:7109",
        "203.0.113.9:4711",
        "2001:db8:bad:1::7",
        "[2001:db8:bad::7]:443",
        "2001:db8:bad::7%eth0",
        "198.51.100.1, 203.0.113.9",
        "127.0.0.1, 203.0.113.9",
        "198.51.100.1, 203.0.113.9, 127.0.0.1",
    ],
)
def test_a_blocked_address_in_another_form_is_still_blocked(server: RunningServer, claim: str) -> None:
    assert send(server, "GET", "/health", [forwarded_for(claim)]).status == 403


def test_neighbours_of_a_blocked_network_are_served(server: RunningServer) -> None:
    for address in ("203.0.112.255", "203.0.114.0", "2001:db8:bae::1"):
        assert send(server, "GET", "/health", [forwarded_for(address)]).status == 200


def test_the_attempt_leaves_an_event(server: RunningServer) -> None:
    send(server, "GET", "/health", [forwarded_for("203.0.113.77")])
    event = next(entry for entry in server.events("http_error") if entry["identifier"] == "203.0.113.77")
    assert event["details"]["reason"] == "blocked_client"
    assert event["severity"] == "medium"


def test_a_blocked_peer_cannot_claim_another_address() -> None:
    with running_server(blocked_clients="127.0.0.0/8") as server:
        for claim in ("198.51.100.1", "::1", "10.0.0.1, 198.51.100.1"):
            assert send(server, "GET", "/health", [key_of(server), forwarded_for(claim)]).status == 403
