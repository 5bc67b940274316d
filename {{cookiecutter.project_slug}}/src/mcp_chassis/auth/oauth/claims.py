"""What both kinds of access tokens have in common: their claims, and acting for the caller."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..principal import Act, Principal
from ..verifier import InvalidCredential, Verifier
from .verdict_cache import Verdict, VerdictCache

if TYPE_CHECKING:
    from .exchange import TokenExchange

_MAX_CLAIM = 8192  # characters of one claim, all items of a list together
_MAX_NUMBER = 2**64

LATEST = 2**53
"""Seconds. Beyond it, arithmetic with floats loses precision or raises."""
LEEWAY = 30
"""Seconds that two clocks may differ."""


@dataclass(kw_only=True, eq=False, repr=False)
class TokenVerifier(Verifier):
    """Judges access tokens of one issuer for this server.

    Args:
        issuer: must equal `iss` exactly.
        audience: this server's resource URL; must be among `aud` (RFC 8707, MCP authorization).
        shown: the claims that tools may see, by the names they get.
        exchange: exchanges tokens of callers for those of other services.
    """

    issuer: str
    audience: str
    shown: Mapping[str, str] = field(default_factory=dict)
    exchange: "TokenExchange | None" = None
    _verdicts: VerdictCache[Verdict] = field(default_factory=VerdictCache, init=False)

    def act_for(self, token: str) -> Act | None:
        """Return what exchanges `token`, if that is set up. The token itself is in nothing that it returns."""
        exchange = self.exchange
        if exchange is None:
            return None

        async def act(audience: str, scopes: tuple[str, ...]) -> str:
            return await exchange.token(token, audience, scopes)

        return act


def principal_of(
    claims: Mapping[str, Any], shown: Mapping[str, str] | None = None, *, subject: str = "sub"
) -> Principal:
    """Return the principal that verified claims describe.

    Args:
        claims: of the token.
        shown: the claims that tools may see, by the names they get.
        subject: the claim that names the caller.

    Raises:
        InvalidCredential: if the subject cannot be a principal's name.
    """
    name = claims.get(subject)
    if not (isinstance(name, str) and 0 < len(name) <= 255 and name.isprintable()):
        raise InvalidCredential("subject")
    found = {name: _texts(_at(claims, path)) for name, path in (shown or {}).items()}
    present = {name: value for name, value in found.items() if value is not None}
    return Principal(f"oauth:{name}", "oauth", _scopes(claims), present)


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


def _at(claims: Any, path: str) -> object:
    """Return a claim; `realm_access.roles` is one of that name or, without it, `roles` in the object `realm_access`."""
    if not isinstance(claims, dict):
        return None
    first, _, rest = path.partition(".")
    return claims[path] if path in claims else _at(claims.get(first), rest) if rest else None


def _texts(value: object) -> str | tuple[str, ...] | None:
    """Return a claim as text or texts. None if a part of it cannot be: half a list of groups may deny less."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value) if abs(value) < _MAX_NUMBER else None  # false for NaN
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) and item.isprintable() for item in items):
        return None
    if sum(len(item) + 1 for item in items) > _MAX_CLAIM:
        return None
    return value if isinstance(value, str) else tuple(items)
