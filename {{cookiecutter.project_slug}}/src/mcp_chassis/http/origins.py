"""Origins and hosts, in the one form that comparisons use."""

import ipaddress
import re
from urllib.parse import urlsplit

from ..limits.client_address import parse_address
from ..sinks.urls import DEFAULT_PORTS

_APP_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+")
_NO_APPS = DEFAULT_PORTS.keys() | {"about", "blob", "data", "file", "ftp", "javascript", "ws", "wss"}
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_USER = re.compile(r"^([a-z][a-z0-9+.-]*://)?.*@", re.IGNORECASE | re.DOTALL)
_NO_ADDRESS = re.compile(r"[?#].*|:(?!//|[0-9a-f]{0,5}(?:[]:/]|\Z)).*", re.IGNORECASE | re.DOTALL)
_HOST_LABELS = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.IGNORECASE)


def shown(text: str) -> str:
    """Return a value for an error: without what is before an `@`, in a query, or after a colon and no port."""
    return _NO_ADDRESS.sub("...", _USER.sub(r"\1...@", text))


def normal_origin(text: str) -> str:
    """Return `text` as a browser writes it in `Origin` (RFC 6454, section 6.1). A `ValueError` says what it lacks."""
    usage = f"{shown(text)!r} is not an origin: write https://host or https://host:port"
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
        raise ValueError(f"{shown(text)!r} is not an origin: write the port without leading zeros, or leave it out")
    if not host.isascii():
        raise ValueError(f"{shown(text)!r}: write the host as browsers send it, in its xn-- form")
    has_more = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    is_host = "%" not in host and (_HOST_LABELS.fullmatch(host) or parse_address(host))
    if parts.scheme not in DEFAULT_PORTS or has_more or not is_host:
        raise ValueError(f"{usage}, without a path")
    name = f"[{ipaddress.IPv6Address(host)}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + ("" if port in {None, DEFAULT_PORTS[parts.scheme]} else f":{port}")


def page_origin(text: str) -> str:
    """Return `text` as `normal_origin` does, or exactly as it is if it is the origin of an app or an extension.

    Those are `chrome-extension://`, `vscode-webview://`, `app://` and the like, whose hosts are case-sensitive.
    """
    is_app = _APP_ORIGIN.fullmatch(text) and text.partition(":")[0] not in _NO_APPS
    return text if is_app else normal_origin(text)


def public_url(text: str) -> str:
    """Return the origin that clients use, with the path, if any, that a proxy strips before it passes requests on."""
    scheme, separator, rest = text.removesuffix("/").partition("://")
    authority, slash, path = rest.partition("/")
    if slash and not is_path(slash + path):
        raise ValueError(f"{shown(text)!r} must be an origin, or one with a path such as https://example.com/api")
    return normal_origin(scheme + separator + authority) + slash + path


def host_name(text: str) -> str:
    """Return a value of `Host`: a name or address, and a port if it is to be only that one."""
    try:
        return urlsplit(normal_origin(f"http://{text}")).netloc
    except ValueError:
        usage = "write a name or an address, such as mcp.internal or mcp.internal:8080"
        raise ValueError(f"{shown(text)!r} is not a host: {usage}") from None


def is_path(text: str) -> bool:
    """Whether `text` is a path that no reader changes: no escapes, no empty or dotted steps, no slash at the end."""
    return _PATH.fullmatch(text) is not None and {".", ".."}.isdisjoint(text.split("/"))


def is_plain_port(netloc: str) -> bool:
    """Whether the port, if any, is written in the only way that every comparison takes alike: not `:0443` or `:`."""
    return re.search(r":(0[0-9]*)?\Z", netloc) is None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    address = parse_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)
