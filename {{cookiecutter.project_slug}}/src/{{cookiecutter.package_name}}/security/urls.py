"""The pure check of a URL. It sees text, not the network: only the address that is dialled can be judged for good."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from .errors import InvalidInput

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z", re.IGNORECASE)
# Names that mean this machine or this network wherever they are resolved (RFC 6761, RFC 6762, RFC 8375, RFC 9476).
_LOCAL_SUFFIXES = ("localhost", "local", "internal", "home.arpa", "alt", "onion", "test", "invalid", "example")


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# What `is_global` calls public and is not: a cloud's own services, relays, site-local addresses, documentation.
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("168.63.129.16/32", "192.88.99.0/24", "fec0::/10", "3fff::/20")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


def validate_url(url: str, *, schemes: tuple[str, ...] = ("https",), max_length: int = 2048) -> str:
    """Return `url` unchanged if it names a public host over an allowed scheme.

    What it cannot see: which address the name resolves to, now or at the next look-up, and where the server redirects.

    Args:
        url: absolute, ASCII (an international host in its `xn--` form).
        schemes: allowed schemes, lower-case.
        max_length: longest accepted URL, in characters.

    Raises:
        InvalidInput: naming the rule, not the URL.
    """
    if len(url) > max_length:
        raise InvalidInput(f"the URL is longer than {max_length} characters")
    # Parsers disagree about these (CVE-2022-3602 was not the first): what is refused cannot be read in two ways.
    if not url.isascii() or any(character <= " " or character in '\\\x7f"<>^`{|}' for character in url):
        raise InvalidInput("the URL holds a space, a control character, a backslash or a character that needs escaping")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput("the URL cannot be parsed") from None
    if parts.scheme not in schemes:
        raise InvalidInput(f"the URL must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if "@" in parts.netloc:
        raise InvalidInput("the URL must not hold a user name or password")
    if port == 0:
        raise InvalidInput("the URL has port 0")
    _check_host(parts)
    return url


def _check_host(parts: SplitResult) -> None:
    host = (parts.hostname or "").removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        if not all(_is_public(form) for form in (address, *_embedded(address))):
            raise InvalidInput("the URL's address is not public")
        return
    labels = host.split(".")
    if not all(_LABEL.match(label) for label in labels) or len(host) > 253:
        raise InvalidInput("the URL's host is not a valid name")
    # 2130706433, 0x7f.1 and 0177.0.0.1 are IPv4 addresses to the C library: a last label of digits is never a name.
    if labels[-1].isdigit() or labels[-1].lower().startswith("0x"):
        raise InvalidInput("the URL's host is an address in an unusual form")
    if len(labels) == 1 or any(f".{host}".endswith(f".{suffix}") for suffix in _LOCAL_SUFFIXES):
        raise InvalidInput("the URL's host is a local name")


def _is_public(address: Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not any(address.version == network.version and address in network for network in _NOT_PUBLIC)
    )


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that a translator on the way may take out of an IPv6 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    low = [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)] if address in _NAT64 or address in _COMPATIBLE else []
    return [*low, *(form for form in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if form)]
