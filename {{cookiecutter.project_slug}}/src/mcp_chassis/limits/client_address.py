"""The address of a client: that of the peer, or the one that a trusted proxy reports."""

import functools
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_UNKNOWN = "unknown"
_MAPPED, _NAT64 = IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96")
_CACHE_SIZE = 1024  # addresses: to parse one costs more than all other checks of a request together


def client_address(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str:
    """Return the client's address as text, or `unknown`.

    `X-Forwarded-For` is read from the right, for as long as a trusted proxy has written the entry. Entries further to
    the left may be forged.

    Args:
        peer: the address at the other end of the connection.
        headers: of the request.
        trusted: networks of the proxies; without any, the header is ignored.
    """
    address = _plain(peer)
    if not is_in_networks(address, trusted):
        return address
    forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
    for entry in reversed(forwarded.split(",")):
        reported = _plain(_without_port(entry.strip()))
        if reported == _UNKNOWN:
            break  # the last address known for sure stands
        address = reported
        if not is_in_networks(address, trusted):
            break
    return address


@functools.lru_cache(_CACHE_SIZE)
def _plain(text: str) -> str:
    return str(parse_address(text) or _UNKNOWN)


@functools.lru_cache(_CACHE_SIZE)
def client_key(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 that one IPv6 customer can choose addresses from.

    Other text, such as the id of a principal, is returned as it is.
    """
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed or address)


@functools.lru_cache(_CACHE_SIZE)
def parse_address(text: str) -> Address | None:
    """Return an address in its plain form: without a zone, and IPv4 where IPv6 only wraps it (`::ffff:192.0.2.1`, and
    `64:ff9b::192.0.2.1` of a translator, RFC 6052).
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    wrapped = IPv4Address(int(address) & 0xFFFFFFFF)
    # A translator writes public addresses only (RFC 6052, section 3.1).
    is_wrapper = address in _MAPPED or (address in _NAT64 and wrapped.is_global)
    return wrapped if is_wrapper else address


def parse_network(text: str) -> Network:
    """Return a network in the form in which addresses are compared.

    Raises:
        ValueError: if it is none. Host bits (10.0.0.1/8) are a typing error; an address alone is a network of one.
    """
    network = ip_network(text)
    if isinstance(network, IPv6Network) and any(network.subnet_of(wrapped) for wrapped in (_MAPPED, _NAT64)):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def is_in_networks(address: str, networks: Sequence[Network]) -> bool:
    """Whether `address` lies in one of `networks`."""
    parsed = parse_address(address) if networks else None
    return parsed is not None and any(parsed in network for network in networks)


def holds_most_addresses(networks: Sequence[Network]) -> bool:
    """Whether `networks` together hold an eighth of all IPv4 or IPv6 addresses, as 2000::/3, all public IPv6, does."""
    v4 = sum(each.num_addresses for each in collapse_addresses(n for n in networks if isinstance(n, IPv4Network)))
    v6 = sum(each.num_addresses for each in collapse_addresses(n for n in networks if isinstance(n, IPv6Network)))
    return v4 >= 1 << (32 - 3) or v6 >= 1 << (128 - 3)


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
