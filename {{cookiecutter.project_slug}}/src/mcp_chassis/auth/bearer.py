"""Takes the bearer token out of a request's headers (RFC 6750, section 2.1)."""

import re
from collections.abc import Iterable

from .verifier import InvalidCredential

# token68 of RFC 9110, section 11.2. Bounded, because a verifier may have to hash or parse it.
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]{1,8192}=*)")


class AmbiguousCredential(InvalidCredential):
    """More than one `Authorization` header: two parsers could choose different ones."""

    def __init__(self) -> None:
        super().__init__("ambiguous")


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the token, or None if the request carries no credential.

    Raises:
        AmbiguousCredential: if there are several.
        InvalidCredential: if there is one and it is not a well-formed bearer token.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        return None
    if len(values) > 1:
        raise AmbiguousCredential
    match = _BEARER.fullmatch(values[0].strip(b" \t"))
    if match is None:
        raise InvalidCredential("malformed")
    return match[1].decode("ascii")
