"""Which address a request really comes from: the peer's, or what a trusted proxy says of it."""

import functools
import ipaddress
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Addresses whose reading is remembered: a caller comes again, and reading costs more than the other checks together.
_REMEMBERED = 1024


def client_address(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str:
    """Return the client's address as text.

    `X-Forwarded-For` is read from the right, as long as the address that wrote the entry is trusted: everything further
    to the left is the client's own invention. Without trusted proxies the header is not looked at.

    Args:
        peer: the address at the other end of the connection.
        headers: the request's.
        trusted: networks of the proxies.
    """
    here = parse_address(peer)
    if here is None or not _is_in(here, trusted):
        return str(here) if here is not None else "unknown"
    forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    for entry in reversed(forwarded.decode("latin-1").split(",")):
        address = parse_address(_without_port(entry.strip()))
        if address is None:
            break  # a proxy wrote something unreadable: the last address known for sure stands
        here = address
        if not _is_in(address, trusted):
            break
    return str(here)


@functools.lru_cache(_REMEMBERED)
def client_key(address: str) -> str:
    """Return what limits count: an IPv4 address, or the /64 that one IPv6 customer can pick addresses from."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed) if parsed is not None else address


@functools.lru_cache(_REMEMBERED)
def parse_address(text: str) -> Address | None:
    """Return an address in its plain form: without a zone, and IPv4 where IPv6 only wraps it (`::ffff:192.0.2.1`)."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_in_networks(address: str, networks: Sequence[Network]) -> bool:
    """Whether `address` lies in one of `networks`."""
    parsed = parse_address(address) if networks else None
    return parsed is not None and _is_in(parsed, networks)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
