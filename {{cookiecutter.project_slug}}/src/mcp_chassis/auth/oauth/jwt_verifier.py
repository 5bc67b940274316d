"""OAuth 2.1 access tokens in JWT form (RFC 9068), verified with the issuer's public keys (RFC 8725, best practices)."""

from dataclasses import dataclass
from typing import Any

import jwt

from ..principal import Principal
from ..verifier import InvalidCredential
from .claims import LEEWAY, TokenVerifier, number, principal_of
from .jwks import IssuerKeys
from .verdict_cache import Verdict

# The key type and curve of each algorithm: a token cannot choose how its key is read. No HMAC, no `none`.
_ALGORITHMS: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
}
_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt"})
_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.InvalidAudienceError: "audience",
    jwt.InvalidIssuerError: "issuer",
    jwt.InvalidSignatureError: "signature",
}


@dataclass(kw_only=True, eq=False, repr=False)
class JwtVerifier(TokenVerifier):
    """Judges JWTs.

    Args:
        keys: of the issuer.
        max_lifetime: maximum accepted seconds from `iat` to `exp`.
    """

    keys: IssuerKeys
    max_lifetime: int = 86_400

    async def verify(self, token: str) -> Principal | None:
        """Return the token's subject; None if the token is not in the form of a signed JWT.

        Raises:
            InvalidCredential: if it is not one of this issuer for this server, or not valid now.
            IssuerUnavailable: if the issuer's keys cannot be had.
        """
        known = self._verdicts.get(token)
        if known is not None:
            # This also fetches keys again in time, so that tokens end with a key that the issuer withdraws.
            if await self.keys.key(known.kid) == known.key:
                return known.principal
            self._verdicts.drop(token)
        if (header := _header(token)) is None:
            return None
        verdict = await self._verdict(token, header)
        self._verdicts.put(token, verdict)
        return verdict.principal

    async def _verdict(self, token: str, header: dict[str, Any]) -> Verdict:
        # `jku`, `x5u` and `jwk` would name a key of the sender's choice: they are never read. `crit` demands
        # extensions, and none is supported here (RFC 7515, section 4.1.11).
        if "crit" in header or str(header.get("typ", "JWT")).lower() not in _TYPES:
            raise InvalidCredential("header")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
            raise InvalidCredential("algorithm")  # without asking the issuer
        kid = kid if isinstance(kid, str) else None
        jwk = await self.keys.key(kid)
        if jwk is None:
            raise InvalidCredential("unknown_key")
        if (jwk.get("kty"), jwk.get("crv")) != _ALGORITHMS[algorithm] or jwk.get("alg", algorithm) != algorithm:
            raise InvalidCredential("algorithm")
        claims = self._claims(token, algorithm, jwk)
        expires = number(claims["exp"])
        if expires - number(claims["iat"]) > self.max_lifetime:
            raise InvalidCredential("lifetime")  # a stolen token must not be good for years
        return Verdict(principal=principal_of(claims, self.shown), until=expires + LEEWAY, kid=kid, key=jwk)

    def _claims(self, token: str, algorithm: str, jwk: dict[str, Any]) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                jwt.PyJWK(jwk, algorithm=algorithm),
                algorithms=[algorithm],
                issuer=self.issuer,
                audience=self.audience,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", "exp", "iat", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise InvalidCredential(_REASONS.get(type(error), "claims")) from None
        return claims


def _header(token: str) -> dict[str, Any] | None:
    if token.count(".") != 2:  # two dots are the compact form (RFC 7515, section 7.1); four would be encrypted
        return None
    try:
        header: dict[str, Any] = jwt.get_unverified_header(token)
    except (jwt.DecodeError, RecursionError):
        return None
    except jwt.InvalidTokenError:
        raise InvalidCredential("header") from None
    return header
