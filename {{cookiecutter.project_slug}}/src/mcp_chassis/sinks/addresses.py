"""Which addresses are public, by a table that does not change with the Python version.

`ipaddress.is_global` does not suffice: it is True for multicast, for 168.63.129.16, and for most ways of writing a
private IPv4 address inside an IPv6 one.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# IPv4 is public except for these rows (IANA IPv4 Special-Purpose Address Registry, RFC 6890, and what it leaves out).
_SPECIAL_V4 = (
    IPv4Network("0.0.0.0/8"),  # this host on this network (RFC 791, section 3.2): Linux connects to itself
    IPv4Network("10.0.0.0/8"),  # private (RFC 1918)
    IPv4Network("100.64.0.0/10"),  # carrier-grade NAT (RFC 6598); 100.100.100.200 is Alibaba's metadata service
    IPv4Network("127.0.0.0/8"),  # loopback (RFC 1122, section 3.2.1.3)
    IPv4Network("168.63.129.16/32"),  # Azure's wire server, inside of public space (Microsoft Learn)
    IPv4Network("169.254.0.0/16"),  # link-local (RFC 3927); 169.254.169.254 is most clouds' metadata service
    IPv4Network("172.16.0.0/12"),  # private (RFC 1918)
    IPv4Network("192.0.0.0/24"),  # IETF protocol assignments (RFC 6890); 192.0.0.192 is Oracle's metadata service
    IPv4Network("192.0.2.0/24"),  # documentation (RFC 5737)
    IPv4Network("192.88.99.0/24"),  # 6to4 relays (RFC 3068, given up by RFC 7526)
    IPv4Network("192.168.0.0/16"),  # private (RFC 1918)
    IPv4Network("198.18.0.0/15"),  # benchmarks (RFC 2544)
    IPv4Network("198.51.100.0/24"),  # documentation (RFC 5737)
    IPv4Network("203.0.113.0/24"),  # documentation (RFC 5737)
    IPv4Network("224.0.0.0/4"),  # multicast (RFC 5771)
    IPv4Network("240.0.0.0/4"),  # reserved (RFC 1112, section 4), and the limited broadcast address (RFC 919)
)

# Of IPv6 only global unicast is public (RFC 4291, section 2.4; IANA allocates from nothing else). Outside of it lie
# loopback and IPv4-compatible ::/96 (RFC 4291), translated ::ffff:0:0:0/96 (RFC 2765), local-use NAT64 64:ff9b:1::/48
# (RFC 8215), discard 100::/64 (RFC 6666), dummy 100:0:0:1::/64 (RFC 9780), SRv6 5f00::/16 (RFC 9602), unique local
# fc00::/7 (RFC 4193), link-local fe80::/10, site-local fec0::/10 (RFC 3879) and multicast ff00::/8 (RFC 4291).
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SPECIAL_V6 = (
    IPv6Network("2001::/23"),  # IETF protocol assignments (RFC 2928): Teredo (RFC 4380), ORCHID (RFC 7343) and others
    IPv6Network("2001:db8::/32"),  # documentation (RFC 3849)
    IPv6Network("2002::/16"),  # 6to4 (RFC 3056): a tunnel to whatever IPv4 address is inside
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)

# An address in these is the IPv4 address in its last 32 bits, and is judged as that one.
_IPV4_INSIDE = (
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped (RFC 4291, section 2.5.5.2)
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052): how an IPv6-only network reaches every public IPv4 server
)
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})  # begin an interface identifier that ends in IPv4 (RFC 5214, 6.1)


def is_public(address: IPAddress, *, also: Iterable[IPNetwork] = ()) -> bool:
    """Whether `address` belongs to the public internet.

    What no table can know: a NAT64 prefix that a network operator chose from public space (RFC 6052, section 2.2).

    Args:
        also: networks that count as public, for internal services that may be reached.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False  # a zone chooses an interface of this machine (RFC 4007)
    return is_within(address, also) or _is_public(_plain(address))


def is_within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    """Whether `address`, or the IPv4 address that it is a way of writing of, is in one of `networks`."""
    address = _plain(address)
    return any(address in network for network in networks)


def _plain(address: IPAddress) -> IPAddress:
    if isinstance(address, IPv6Address) and any(address in network for network in _IPV4_INSIDE):
        return _last_ipv4(address)
    return address


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address not in _GLOBAL_UNICAST or any(address in network for network in _SPECIAL_V6):
        return False
    identifier = int(address) >> 32 & 0xFFFF_FFFF
    return identifier not in _ISATAP or _is_public(_last_ipv4(address))


def _last_ipv4(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFF_FFFF)
