"""URLs as text: checking one, and putting values into one. `SafeFetcher` checks the address too."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import quote, unquote

from .addresses import IPNetwork, is_public
from .errors import ConfigurationError, InvalidInput, refuse_length

DEFAULT_PORTS = {"http": 80, "https": 443}
# RFC 3986 without its dark corners: no user name, zone id, percent-escape, empty or zero-padded port in the authority.
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f.]*:[0-9a-f:.]*\]|[a-z0-9._-]+)(:(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(#.*)?",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# 2130706433, 0x7f.1 and 0177.0.0.1 are IPv4 addresses to the C library. A name that ends in a number is never a
# name (URL Standard, «ends in a number»).
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Names of this machine or this network (RFC 6761, RFC 6762 with appendix G, RFC 8375, RFC 9476, and of platforms).
_LOCAL_SUFFIXES = (
    *(".localhost", ".local", ".localdomain", ".internal", ".intranet", ".private", ".corp", ".home", ".lan"),
    *(".home.arpa", ".alt", ".onion", ".test", ".invalid", ".example", ".svc", ".consul", ".metadata.goog"),
)
_PLACE = re.compile(r"\{(\w+)\}")
_AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#{}]+(?=[/?#]|\Z)")


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL. A client that connects with these cannot read the URL differently with a second parser."""

    scheme: str
    host: str  # lower-case, an IPv6 address in brackets
    port: int
    path: str  # with the query; never empty
    is_address: bool  # whether the host is an IP address

    @property
    def authority(self) -> str:
        """The value of `Host` (RFC 9110, section 7.2)."""
        return self.host if self.port == DEFAULT_PORTS.get(self.scheme) else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port (RFC 6454). Credentials of one origin must not be sent to another."""
        return f"{self.scheme}://{self.authority}"


def validate_url(
    url: str, schemes: Collection[str] = ("https",), *, ports: Collection[int] | None = None, max_length: int = 2048
) -> str:
    """Return `url` unchanged if it names a public host over an allowed scheme.

    What it cannot see: which address the name resolves to, now or at the next look-up, and where the server redirects.
    `SafeFetcher` sees both.

    Args:
        url: absolute, ASCII (an international host in its `xn--` form).
        schemes: allowed schemes, lower-case.
        ports: allowed ports. Default: those of the schemes.
        max_length: longest accepted URL, in characters.

    Raises:
        InvalidInput: naming the rule, not the URL.
        ConfigurationError: if `schemes` are none.
    """
    read_url(url, schemes=schemes, ports=ports, max_length=max_length)
    return url


def read_url(
    url: str,
    *,
    schemes: Collection[str],
    ports: Collection[int] | None = None,
    networks: Iterable[IPNetwork] = (),
    max_length: int = 2048,
) -> Target:
    """Return the parts of `url`. See `validate_url`.

    Args:
        networks: internal networks that may be reached. With any, local names are allowed and their addresses decide.
    """
    # Of one text every part would be a scheme: `http` is in `https`.
    if isinstance(schemes, str) or not all(_SCHEME.fullmatch(scheme) for scheme in schemes):
        raise ConfigurationError('schemes are a list of names in lower case, such as ["https"]')
    target = parse_url(url, schemes=schemes, max_length=max_length)
    if target.port not in ([DEFAULT_PORTS.get(allowed, 0) for allowed in schemes] if ports is None else ports):
        raise InvalidInput("the URL's port is not allowed")
    if target.is_address:
        if not is_public(ip_address(target.host.strip("[]")), also=networks):
            raise InvalidInput("the URL's address is not public")
    elif not networks and ("." not in target.host or f".{target.host}".endswith(_LOCAL_SUFFIXES)):
        raise InvalidInput("the URL's host is a local name")
    return target


def parse_url(url: str, *, schemes: Collection[str] = tuple(DEFAULT_PORTS), max_length: int = 2048) -> Target:
    """Return the parts of `url`, wherever it leads."""
    refuse_length(url, max_length, what="the URL")
    # Parsers disagree about these, full-width digits and dots among them: what is refused is not read in two ways.
    if re.search(r'[^!-~]|[\\"<>^`{|}]', url):
        raise InvalidInput("the URL holds a space, a control character, a backslash or a character that needs escaping")
    scheme = url.partition(":")[0].lower()
    if scheme not in schemes:
        raise InvalidInput(f"the URL must start with {' or '.join(f'{allowed}://' for allowed in schemes)}")
    # Up to the first slash, also after '?' and '#', where some parsers still look for a user name.
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise InvalidInput("the URL must not hold a user name or password")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise InvalidInput("the URL's host or port is not valid")
    host, is_address = _read_host(parts["host"].lower())
    port = int(parts["port"] or DEFAULT_PORTS.get(scheme, 0))
    return Target(scheme, host, port, (parts["path"] or "/") + (parts["query"] or ""), is_address)


def _read_host(host: str) -> tuple[str, bool]:
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        labels = host.split(".")
        if _NUMBER.fullmatch(labels[-1]):
            raise InvalidInput("the URL's host is an address in an unusual form") from None
        # A trailing dot names the same host to the resolver, and another one to certificates and lists of names.
        if not all(_LABEL.fullmatch(label) for label in labels) or len(host) > 253:
            raise InvalidInput("the URL's host is not a valid name") from None
        return host, False
    return f"[{address}]" if isinstance(address, IPv6Address) else str(address), True


def fill_url(template: str, /, **values: str | int) -> str:
    """Return `template` with every `{name}` replaced by its value, percent-encoded (RFC 6570, simple expansion).

    A value is one segment of the path or one value of the query: what would be another segment, parameter or fragment
    is encoded. Scheme and host are the author's alone.

    Args:
        template: such as `https://api.example.com/users/{user}/notes?page={page}`.
        values: one for each name in the template.

    Raises:
        InvalidInput: if a value is empty, cannot be encoded, or names a directory (`.`, `..`, `../x`), which servers
            and clients resolve even when it is encoded (WHATWG URL, double-dot path segment).
        ConfigurationError: if the template has a place outside of path, query and fragment, or the names do not match.
    """
    if not _AUTHORITY.match(template):
        raise ConfigurationError("the template must start with a scheme and a host that hold no {place}")
    if set(_PLACE.findall(template)) != values.keys() or re.search("[{}]", _PLACE.sub("", template)):
        raise ConfigurationError("the template's places and the names of the values differ")
    return _PLACE.sub(lambda place: encoded(place[1], str(values[place[1]])), template)


def encoded(name: str, value: str, *, safe: str = "") -> str:
    """Return `value` as one segment of a path or one value of a query. See `fill_url`."""
    if not value:
        raise InvalidInput(f"{name} is empty")
    # Some servers decode twice, or cut off what follows a semicolon.
    if any(part.partition(";")[0] in {".", ".."} for part in re.split(r"[/\\]", unquote(value))):
        raise InvalidInput(f"{name} has a part that is '.' or '..'")
    if any(character < " " or character == "\x7f" for character in value):
        raise InvalidInput(f"{name} holds a control character")
    try:
        return quote(value, safe=safe, errors="strict")
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} is not valid Unicode") from None
