"""Origins and hosts, in the one form that comparisons use."""

import ipaddress
import re
from urllib.parse import urlsplit

from ..limits.client_address import parse_address
from ..sinks.urls import DEFAULT_PORTS

_HOST_LABELS = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.IGNORECASE)


def normal_origin(text: str) -> str:
    """Return `text` as a browser would write it in `Origin` (RFC 6454, section 6.1).

    Raises:
        ValueError: saying what an origin looks like.
    """
    usage = f"{text!r} is not an origin: write https://host or https://host:port"
    if not text.isprintable() or " " in text:
        raise ValueError(usage)
    if text == "*":
        raise ValueError("'*' is not allowed: list the exact origins, such as https://app.example.com")
    try:
        parts = urlsplit(text.removesuffix("/"))
        port = parts.port
    except ValueError:
        raise ValueError(usage) from None
    host = parts.hostname or ""
    if not is_plain_port(parts.netloc):
        raise ValueError(f"{text!r} is not an origin: write the port without leading zeros, or leave it out")
    if not host.isascii():
        raise ValueError(f"{text!r}: write the host as browsers send it, in its xn-- form")
    has_more = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    is_host = "%" not in host and (_HOST_LABELS.fullmatch(host) or parse_address(host))
    if parts.scheme not in DEFAULT_PORTS or has_more or not is_host:
        raise ValueError(f"{usage}, without a path")
    name = f"[{ipaddress.IPv6Address(host)}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + ("" if port in {None, DEFAULT_PORTS[parts.scheme]} else f":{port}")


def is_plain_port(netloc: str) -> bool:
    """Whether the port, if any, is written in the only way that every comparison takes alike: not `:0443` or `:`."""
    return re.search(r":(0[0-9]*)?\Z", netloc) is None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    address = parse_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)
