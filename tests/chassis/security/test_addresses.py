"""The address table: what is public and what only looks like it."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.sinks.addresses import is_public

SPECIAL = {
    "this host (RFC 791)": ("0.0.0.0", "0.255.255.255"),
    "private (RFC 1918)": ("10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.0"),
    "carrier-grade NAT (RFC 6598)": ("100.64.0.0", "100.127.255.255"),
    "loopback (RFC 1122)": ("127.0.0.1", "127.255.255.255", "::1"),
    "link-local (RFC 3927, RFC 4291)": ("169.254.0.0", "169.254.255.255", "fe80::1", "febf:ffff::"),
    "protocol assignments (RFC 6890, RFC 2928)": ("192.0.0.0", "192.0.0.9", "192.0.0.255", "2001::1", "2001:1ff::1"),
    "documentation (RFC 5737, RFC 3849, RFC 9637)": (
        *("192.0.2.1", "198.51.100.1", "203.0.113.255"),
        *("2001:db8::1", "2001:db8:ffff::", "3fff::1", "3fff:fff:ffff::"),
    ),
    "6to4 relays (RFC 7526)": ("192.88.99.1", "192.88.99.255"),
    "benchmarks (RFC 2544, RFC 5180)": ("198.18.0.0", "198.19.255.255", "2001:2::1"),
    "multicast (RFC 5771, RFC 4291)": ("224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"),
    "reserved (RFC 1112, RFC 919)": ("240.0.0.1", "255.255.255.255"),
    "clouds' metadata": (
        *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "169.254.0.23"),
        *("fd00:ec2::254", "fd20:ce::254"),
    ),
    "unspecified (RFC 4291)": ("::",),
    "IPv4-compatible (RFC 4291)": ("::127.0.0.1", "::8.8.8.8"),
    "IPv4-mapped (RFC 4291)": ("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::ffff:168.63.129.16"),
    "IPv4-translated (RFC 2765)": ("::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"),
    "NAT64 (RFC 6052)": ("64:ff9b::a9fe:a9fe", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1"),
    "NAT64 for local use (RFC 8215)": ("64:ff9b:1::1", "64:ff9b:1:a9fe:a9:fe00::"),
    "6to4 (RFC 3056)": ("2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1"),
    "Teredo (RFC 4380)": ("2001:0:4136:e378:8000:63bf:80ff:fffe",),
    "ORCHID (RFC 4843, RFC 7343)": ("2001:10::1", "2001:20::1"),
    "ISATAP (RFC 5214)": ("2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1", "2a00::5efe:a9fe:a9fe"),
    "site-local (RFC 3879)": ("fec0::1", "feff::1"),
    "unique local (RFC 4193)": ("fc00::1", "fdff::1"),
    "discard and dummy (RFC 6666, RFC 9780)": ("100::1", "100:0:0:1::1"),
    "SRv6 (RFC 9602)": ("5f00::1",),
    "outside of global unicast (RFC 4291)": ("1::1", "400::1", "4000::1", "8000::1", "e000::1"),
}

PUBLIC = (
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.215.14", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "172.15.255.255", "172.32.0.0"),
    *("192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
    *("2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700:4700::1111", "2a00:1450:4001::1"),
    *("2606:4700::5efe:8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
    *("::ffff:168.63.129.15", "::ffff:168.63.129.17", "2606:4700::5efd:127.0.0.1", "2606:4700::5eff:127.0.0.1"),
    *("2606:4700::1ff:5efe:127.0.0.1", "2606:4700::201:5efe:127.0.0.1"),
)


@pytest.mark.parametrize(
    "text", [text for texts in SPECIAL.values() for text in texts], ids=lambda text: str(text).replace("::", "..")
)
def test_special_addresses_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC, ids=lambda text: str(text).replace("::", ".."))
def test_their_neighbours_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", ["fe80::1%eth0", "2606:4700:4700::1111%1", "::1%lo"])
def test_a_zone_chooses_an_interface_of_this_machine(text: str) -> None:
    assert not is_public(ip_address(text))
    assert not is_public(ip_address(text), also=[ip_network("::/0")])


@pytest.mark.parametrize("prefix", ["::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"])
@given(number=st.integers(0, 2**32 - 1))
def test_no_wrapping_makes_an_ipv4_address_public(prefix: str, number: int) -> None:
    inner = IPv4Address(number)
    wrapped = IPv6Address(int(IPv6Address(prefix)) | number)
    assert is_public(inner) or not is_public(wrapped)


@given(number=st.integers(0, 2**32 - 1), flag=st.sampled_from([0x5EFE, 0x0200_5EFE]))
def test_isatap_is_as_public_as_what_is_inside(number: int, flag: int) -> None:
    wrapped = IPv6Address(int(IPv6Address("2606:4700::")) | flag << 32 | number)
    assert is_public(wrapped) == is_public(IPv4Address(number))


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(address: IPv4Address | IPv6Address) -> None:
    """Our table is the stricter one. The exceptions are addresses that are judged by the IPv4 address inside."""
    if is_public(address):
        assert address.is_global or address in ip_network("::ffff:0:0/96")
        assert not (address.is_private or address.is_loopback or address.is_multicast) or address.version == 6


def test_internal_networks_may_be_allowed() -> None:
    networks = [ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")]
    assert is_public(ip_address("10.1.2.3"), also=networks)
    assert is_public(ip_address("::ffff:10.1.2.3"), also=networks)
    assert is_public(ip_address("fd00:1::5"), also=networks)
    assert is_public(ip_address("8.8.8.8"), also=networks)
    assert not is_public(ip_address("10.2.0.1"), also=networks)
    assert not is_public(ip_address("fd00:2::5"), also=networks)
    assert not is_public(ip_address("127.0.0.1"), also=networks)
