"""Which address a request really comes from."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.limits import client_address as addresses
from mcp_chassis.limits.client_address import (
    client_address,
    client_key,
    holds_most_addresses,
    is_in_networks,
    parse_address,
    parse_network,
)

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8:f::/48")]


def seen(peer: str, *forwarded: str) -> str:
    headers = [(b"host", b"a.example"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    return client_address(peer, headers, PROXIES)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.1"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.1, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.1", "192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1", "10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.1, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["garbage"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1,"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1:4711"], "192.0.2.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8:0::1"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:192.0.2.1"], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("2001:db8:f::1", ["192.0.2.1"], "192.0.2.1"),
        ("fe80::1%eth0", [], "fe80::1"),
        ("unknown", ["192.0.2.1"], "unknown"),
        ("", [], "unknown"),
        ("10.0.0.1", ["\xff\xfe"], "10.0.0.1"),
    ],
)
def test_the_header_is_believed_as_far_as_trusted_proxies_wrote_it(
    peer: str, forwarded: list[str], expected: str
) -> None:
    assert seen(peer, *forwarded) == expected


_ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.ip_addresses(network="10.0.0.0/8"),
    st.ip_addresses(network="2001:db8:f::/48"),
)
_ENTRIES = st.one_of(_ADDRESSES.map(str), st.text("0123456789abcdef.:[]% ", max_size=12))


@given(_ADDRESSES.map(str), st.lists(_ENTRIES, max_size=6), st.lists(_ENTRIES, max_size=6))
def test_nothing_left_of_the_last_untrusted_entry_is_ever_returned(
    peer: str, invented: list[str], written: list[str]
) -> None:
    """Whatever a client writes in front of what the proxies append, the result stays the same."""
    known = [peer, *reversed(written)]
    if all(is_in_networks(entry, PROXIES) for entry in known):
        return  # no untrusted address in the chain: further to the left is a proxy's word, too
    assert seen(peer, ", ".join([*invented, *written])) == seen(peer, *([", ".join(written)] if written else []))


@given(_ADDRESSES.map(str), st.lists(_ENTRIES, max_size=6))
def test_the_result_is_an_address_in_its_plain_form(peer: str, forwarded: list[str]) -> None:
    found = seen(peer, *forwarded)
    assert str(parse_address(found)) == found


@given(_ADDRESSES.map(str), st.binary(max_size=40))
def test_without_trusted_proxies_the_header_is_not_looked_at(peer: str, value: bytes) -> None:
    assert client_address(peer, [(b"x-forwarded-for", value)], []) == str(parse_address(peer))


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::1.1.1.1", "1.1.1.1"),
        ("64:ff9b::10.0.0.1", "64:ff9b::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_limits_count_ipv4_addresses_and_ipv6_customers(address: str, key: str) -> None:
    assert client_key(address) == key


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_all_addresses_of_one_64_are_one_client_and_no_others(address: ipaddress.IPv6Address, host: int) -> None:
    if int(address) >> 64 in {0, int(ipaddress.IPv6Address("64:ff9b::")) >> 64}:
        return  # where IPv4 is mapped, or translated
    other = ipaddress.IPv6Address(int(address) >> 64 << 64 | host)
    assert client_key(str(other)) == client_key(str(address))
    neighbour = ipaddress.IPv6Address(int(address) ^ 1 << 64)
    assert client_key(str(neighbour)) != client_key(str(address))


@pytest.mark.parametrize(
    ("network", "held", "others"),
    [
        ("::ffff:203.0.113.0/120", ["203.0.113.7", "::ffff:203.0.113.7"], ["203.0.114.7"]),
        ("::ffff:0:0/96", ["203.0.113.7", "10.0.0.1"], ["2001:db8::1"]),
        ("64:ff9b::1.1.1.0/120", ["1.1.1.1", "64:ff9b::1.1.1.1"], ["1.1.2.1"]),
        ("1.1.1.1", ["64:ff9b::1.1.1.1", "::ffff:1.1.1.1"], ["64:ff9b::1.1.1.2"]),
        ("10.0.0.0/8", ["10.0.0.1", "::ffff:10.0.0.1"], ["64:ff9b::10.0.0.1"]),
        ("2001:db8::/32", ["2001:db8::1"], ["203.0.113.7"]),
        ("::ffff:192.0.2.1", ["192.0.2.1"], ["192.0.2.0"]),
        ("64:ff9b::255.255.255.255", ["255.255.255.255"], ["255.255.255.254"]),
    ],
)
def test_every_form_of_an_address_is_in_the_same_networks(network: str, held: list[str], others: list[str]) -> None:
    """A blocked address must not come back in another form, and a translator must not make all its clients one."""
    networks = [parse_network(network)]
    assert [address for address in held if not is_in_networks(address, networks)] == []
    assert [address for address in others if is_in_networks(address, networks)] == []


def test_networks_hold_addresses_of_their_own_family() -> None:
    assert is_in_networks("10.1.2.3", PROXIES)
    assert is_in_networks("::ffff:10.1.2.3", PROXIES)
    assert not is_in_networks("11.1.2.3", PROXIES)
    assert not is_in_networks("::a01:203", PROXIES)
    assert not is_in_networks("unknown", PROXIES)
    assert not is_in_networks("10.1.2.3", [])


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        (["0.0.0.0/0"], True),
        (["2000::/3"], True),
        (["64.0.0.0/3"], True),
        (["64.0.0.0/4"], False),
        (["64.0.0.0/4", "80.0.0.0/4"], True),
        (["64.0.0.0/4", "64.0.0.0/5"], False),
        (["2000::/4"], False),
        (["64.0.0.0/4", "2000::/4"], False),
        (["10.0.0.0/8", "2001:db8::/32"], False),
        ([], False),
    ],
)
def test_an_eighth_of_all_addresses_of_a_family_is_most(networks: list[str], expected: bool) -> None:
    assert holds_most_addresses([ipaddress.ip_network(network) for network in networks]) is expected


@pytest.mark.parametrize("function", [addresses._plain, client_key, parse_address], ids=["plain", "key", "parse"])
def test_recent_addresses_are_not_parsed_again_and_memory_for_them_is_bounded(function: Any) -> None:
    function.cache_clear()
    for _ in range(2):
        function("192.0.2.1")
    assert function.cache_info()[:2] == (1, 1), "one hit, one miss"
    for number in range(3000):
        function(f"192.0.2.{number}")
    assert function.cache_info().currsize < 2000
