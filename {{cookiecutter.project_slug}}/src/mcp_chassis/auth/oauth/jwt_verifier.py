"""OAuth 2.1 access tokens in JWT form (RFC 9068), verified with the issuer's public keys (RFC 8725, best practices)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from ..principal import Principal
from ..verifier import InvalidCredential
from .jwks import IssuerKeys
from .rules import LEEWAY, quoted
from .token_verifier import TokenVerifier
from .verdict_cache import Verdict

# The key type and curve of each algorithm: a token cannot choose how its key is read. No HMAC, no `none`.
_ALGORITHMS: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
}
_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt"})
_PARSER = jwt.PyJWS(options={"enforce_minimum_key_length": True})


@dataclass(kw_only=True, eq=False, repr=False)
class JwtVerifier(TokenVerifier):
    """Judges JWTs.

    Args:
        keys: of the issuer.
    """

    keys: IssuerKeys

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
        if (header := header_of(token)) is None:
            return None
        verdict = await self._verdict(token, header)
        self._verdicts.put(token, verdict)
        return verdict.principal

    async def _verdict(self, token: str, header: dict[str, Any]) -> Verdict:
        for reason, _ in header_violations(header):
            raise InvalidCredential(reason)  # without asking the issuer
        kid = header.get("kid")
        kid = kid if isinstance(kid, str) else None
        jwk = await self.keys.key(kid)
        claims = verified_claims(token, header["alg"], jwk)
        principal = self.rules.principal(claims, is_jwt=True)
        return Verdict(principal=principal, until=claims["exp"] + LEEWAY, kid=kid, key=jwk)


def header_of(token: str) -> dict[str, Any] | None:
    """Return the header of a token; None if the token is not in the form of a signed JWT.

    Raises:
        InvalidCredential: if it is, with a header that no verifier accepts.
    """
    if token.count(".") != 2:  # two dots are the compact form (RFC 7515, section 7.1); four would be encrypted
        return None
    try:
        return _PARSER.get_unverified_header(token)
    except (jwt.DecodeError, RecursionError):
        return None
    except jwt.InvalidTokenError:
        raise InvalidCredential("header") from None


def header_violations(header: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every rule that a header breaks. See `Rules.violations`.

    `jku`, `x5u` and `jwk` would name a key of the sender's choice: they are never read.
    """
    if "crit" in header:  # demands extensions, and none is supported here (RFC 7515, section 4.1.11)
        yield "header", "Its header has crit."
    if str(header.get("typ", "JWT")).lower() not in _TYPES:
        yield "header", f"typ is {quoted(header['typ'])}, and must be at+jwt or JWT: is it an access token?"
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        yield "algorithm", f"alg is {quoted(algorithm)}, and must be one of {', '.join(_ALGORITHMS)}."


def verified_claims(token: str, algorithm: str, jwk: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the claims of a token that was signed with a key of the issuer.

    Args:
        token: whose header breaks no rule.
        algorithm: that the header names.
        jwk: the key that it names; None if there is none.

    Raises:
        InvalidCredential: if the signature is not valid, or the key or the claims are none.
    """
    if jwk is None:
        raise InvalidCredential("unknown_key")
    if (jwk.get("kty"), jwk.get("crv")) != _ALGORITHMS[algorithm] or jwk.get("alg", algorithm) != algorithm:
        raise InvalidCredential("algorithm")
    try:
        return claims_of(_PARSER.decode(token, jwt.PyJWK(dict(jwk), algorithm=algorithm), algorithms=[algorithm]))
    except jwt.InvalidSignatureError:
        raise InvalidCredential("signature") from None
    except jwt.PyJWTError:
        raise InvalidCredential("claims") from None


def unverified_claims(token: str) -> dict[str, Any]:
    """Return the claims of a token that anyone may have written. For explanations only.

    Raises:
        InvalidCredential: if they are none.
    """
    try:
        return claims_of(_PARSER.decode(token, options={"verify_signature": False}))
    except jwt.PyJWTError:
        raise InvalidCredential("claims") from None


def claims_of(payload: bytes) -> dict[str, Any]:
    """Return the claims in the payload of a JWT.

    Raises:
        InvalidCredential: if it is no JSON object.
    """
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise InvalidCredential("claims")
    return claims
