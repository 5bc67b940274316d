"""OAuth 2.1 access tokens in JWT form (RFC 9068), verified with the issuer's public keys (RFC 8725, best practices)."""

from typing import Any

import jwt

from .jwks import IssuerKeys
from .principal import Principal
from .verifier import InvalidCredential

# One family a key type: a token cannot choose how its key is read. No HMAC, no `none`.
_ALGORITHMS: dict[tuple[object, object], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt"})
_LEEWAY = 30  # seconds that two clocks may differ
_REQUIRED = ("iss", "aud", "exp", "iat", "sub")


class JwtVerifier:
    """Judges access tokens of one issuer for this server.

    Args:
        issuer: must equal `iss` exactly.
        audience: this server's resource URL; must be among `aud` (RFC 8707, MCP authorization).
        keys: of the issuer.
    """

    def __init__(self, *, issuer: str, audience: str, keys: IssuerKeys) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys

    async def verify(self, token: str) -> Principal:
        """Return the token's subject.

        Raises:
            InvalidCredential: if the token is not one of this issuer for this server, or not valid now.
            IssuerUnavailable: if the issuer's keys cannot be had.
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise InvalidCredential("malformed") from None
        # `jku`, `x5u` and `jwk` would name a key of the sender's choice: they are never read. `crit` demands
        # extensions that nobody here understands (RFC 7515, section 4.1.11).
        if "crit" in header or str(header.get("typ", "JWT")).lower() not in _TYPES:
            raise InvalidCredential("header")
        kid = header.get("kid")
        jwk = await self._keys.key(kid if isinstance(kid, str) else None)
        if jwk is None:
            raise InvalidCredential("unknown_key")
        return _principal(self._claims(token, header, jwk))

    def _claims(self, token: str, header: dict[str, Any], jwk: dict[str, Any]) -> dict[str, Any]:
        curve = jwk.get("crv") if jwk.get("kty") != "RSA" else None
        algorithm = header.get("alg")
        family = next((names for kind, names in _ALGORITHMS.items() if kind == (jwk.get("kty"), curve)), ())
        if algorithm not in family or jwk.get("alg", algorithm) != algorithm:
            raise InvalidCredential("algorithm")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                jwt.PyJWK(jwk, algorithm=algorithm),
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY,
                options={"require": list(_REQUIRED)},
            )
        except jwt.ExpiredSignatureError:
            raise InvalidCredential("expired") from None
        except jwt.InvalidAudienceError:
            raise InvalidCredential("audience") from None
        except jwt.InvalidIssuerError:
            raise InvalidCredential("issuer") from None
        except jwt.InvalidSignatureError:
            raise InvalidCredential("signature") from None
        except jwt.PyJWTError:
            raise InvalidCredential("claims") from None
        return claims


def _principal(claims: dict[str, Any]) -> Principal:
    subject = claims["sub"]
    if not (isinstance(subject, str) and 0 < len(subject) <= 255 and subject.isprintable()):
        raise InvalidCredential("subject")
    return Principal(f"oauth:{subject}", "oauth", _scopes(claims))


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Return the scopes from `scope` (RFC 9068), or `scp` where an issuer writes that. `*` is ours and never theirs."""
    granted = claims.get("scope", claims.get("scp", ""))
    names = granted.split() if isinstance(granted, str) else granted if isinstance(granted, list) else ()
    return frozenset(name for name in names if isinstance(name, str)) - {"*"}
