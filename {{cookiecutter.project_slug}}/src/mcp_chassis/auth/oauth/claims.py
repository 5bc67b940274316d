"""Reads claims, whether they come from a token or from the issuer's introspection endpoint."""

from collections.abc import Mapping
from typing import Any

from ..principal import Principal
from ..verifier import InvalidCredential

LATEST = 2**53
"""Seconds. Beyond it, arithmetic with floats loses precision or raises."""


def principal_of(claims: Mapping[str, Any], *, subject: str = "sub") -> Principal:
    """Return the principal that verified claims describe.

    Raises:
        InvalidCredential: if the subject cannot be a principal's name.
    """
    name = claims.get(subject)
    if not (isinstance(name, str) and 0 < len(name) <= 255 and name.isprintable()):
        raise InvalidCredential("subject")
    return Principal(f"oauth:{name}", "oauth", _scopes(claims))


def number(value: object) -> float:
    """Return a time claim (RFC 7519, NumericDate).

    Raises:
        InvalidCredential: if it is not a number from 0 to 2**53. PyJWT accepts text and `true`, and JSON has NaN, which
            is neither earlier nor later than now.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise InvalidCredential("claims")
    return value


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes from `scope` (RFC 9068), or `scp` of some issuers. `*` is ours: no issuer can grant it."""
    granted = claims.get("scope", claims.get("scp", ""))
    names = granted.split() if isinstance(granted, str) else granted if isinstance(granted, list) else ()
    return frozenset(name for name in names if isinstance(name, str)) - {"*"}
