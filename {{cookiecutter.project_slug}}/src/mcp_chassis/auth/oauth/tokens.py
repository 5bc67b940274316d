"""What both kinds of access tokens have in common: the claims that tools may see, and acting for the caller."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..principal import Act, Principal
from ..verifier import Verifier
from .claims import principal_of
from .exchange import TokenExchange

_NONE: Mapping[str, str] = MappingProxyType({})


class TokenVerifier(Verifier):
    """Judges access tokens.

    Args:
        shown: the claims that tools may see, by the names they get.
        exchange: exchanges tokens of callers for those of other services.
    """

    def __init__(self, shown: Mapping[str, str] = _NONE, exchange: TokenExchange | None = None) -> None:
        self._shown = shown
        self._exchange = exchange

    def act_for(self, token: str) -> Act | None:
        """Return what exchanges `token`, if that is set up. The token itself is in nothing that it returns."""
        exchange = self._exchange
        if exchange is None:
            return None

        async def act(audience: str, scopes: tuple[str, ...]) -> str:
            return await exchange.token(token, audience, scopes)

        return act

    def _principal(self, claims: Mapping[str, Any], *, subject: str = "sub") -> Principal:
        return principal_of(claims, self._shown, subject=subject)
