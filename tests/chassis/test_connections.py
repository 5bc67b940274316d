"""Counting connections: in all, by address, and those that are only told that there is no room."""

import ipaddress

from mcp_chassis.http.connections import Connections


def states(connections: Connections, *addresses: str) -> list[str]:
    """Take a place for each address."""
    return [connections.take(address).state for address in addresses]


def test_beyond_the_limit_no_client_gets_a_connection() -> None:
    assert states(Connections(2, 9), "192.0.2.1", "192.0.2.2", "192.0.2.3") == ["open", "open", "full"]


def test_beyond_the_most_of_one_address_there_is_room_for_others() -> None:
    taken = states(Connections(9, 1), "192.0.2.1", "192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1")
    assert taken == ["open", "full for this address", "open", "full for this address"]


def test_a_64_of_ipv6_is_one_address() -> None:
    taken = states(Connections(9, 1), "2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1")
    assert taken == ["open", "full for this address", "open"]


def test_a_trusted_proxy_and_a_local_socket_have_only_the_limit_of_all() -> None:
    proxy = ipaddress.ip_network("10.0.0.0/8")
    taken = states(Connections(4, 1, exempt=[proxy]), *["10.1.2.3"] * 2, *[""] * 3)
    assert taken == ["open"] * 4 + ["full"]


def test_a_place_that_is_given_back_can_be_taken_again() -> None:
    connections = Connections(1, 1)
    for _ in range(30):
        place = connections.take("192.0.2.1")
        told = connections.take("192.0.2.2")
        assert (place.state, told.state) == ("open", "full")
        connections.leave(told)
        connections.leave(place)
    assert not connections._open, "addresses that have left are remembered"


def test_connections_that_get_a_503_are_counted_too_and_take_no_place() -> None:
    connections = Connections(1000, 1)
    assert states(connections, *["192.0.2.1"] * 102)[-2:] == ["full for this address", "hang up"]
    assert states(connections, "192.0.2.2") == ["open"]
