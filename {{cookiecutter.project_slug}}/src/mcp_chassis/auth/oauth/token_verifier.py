"""What both kinds of access tokens have in common: their rules, and acting for the caller."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..principal import Act
from ..verifier import Verifier
from .rules import Rules
from .verdict_cache import Verdict, VerdictCache

if TYPE_CHECKING:
    from .exchange import TokenExchange


@dataclass(kw_only=True, eq=False, repr=False)
class TokenVerifier(Verifier):
    """Judges access tokens of one issuer for this server."""

    rules: Rules
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
