"""What a token of the issuer must say to be accepted, and which caller with which scopes it then stands for.

Issuers put these into different claims. The settings and the profile of the provider say which: nothing is guessed.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...http.origins import shown
from ..principal import SCOPE_CHARACTER, Principal
from ..verifier import InvalidCredential

LATEST = 2**53
"""Seconds. Beyond it, arithmetic with floats loses precision or raises."""
LEEWAY = 30
"""Seconds that two clocks may differ."""
CLIENT_CLAIMS = ("azp", "client_id", "cid", "appid")
"""Claims in which issuers name the client that a token was issued to."""

_MAX_CLAIM = 8192  # characters of one claim, all items of a list together
_MAX_NUMBER = 2**64
# Of the provider, never of this server (OpenID Connect Core 1.0, sections 5.4 and 11).
_OF_OPENID = frozenset({"openid", "profile", "email", "address", "phone", "offline_access"})
_SCOPES = re.compile(rf"{SCOPE_CHARACTER}+( +{SCOPE_CHARACTER}+)*")

Paths = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Judges verified claims.

    Args:
        issuer: must equal `iss` exactly.
        audience: this server as the issuer names it; must be among `aud` (RFC 8707, MCP authorization).
        audience_claims: `aud` or of `CLIENT_CLAIMS`. The first that a token has decides.
        clients: the clients whose tokens are accepted; empty for all.
        required: values that claims must have, such as `token_use` of Cognito's access tokens.
        subject_claims: the first that a token has names the caller.
        scope_claims: claims that hold scopes; of each tuple, the first that a token has.
        scope_map: the scopes that other names stand for, such as names of roles.
        scope_prefix: what the issuer writes in front of this server's scopes, such as `api://notes/`.
        shown: the claims that tools may see, by the names they get.
        max_lifetime: maximum accepted seconds from `iat` to `exp` of a JWT.
    """

    issuer: str
    audience: str
    audience_claims: Paths = ("aud",)
    clients: frozenset[str] = frozenset()
    required: Mapping[str, str] = field(default_factory=dict)
    subject_claims: Paths = ("sub",)
    scope_claims: tuple[Paths, ...] = (("scope",), ("scp",))
    scope_map: Mapping[str, Paths] = field(default_factory=dict)
    scope_prefix: str = ""
    shown: Mapping[str, str] = field(default_factory=dict)
    max_lifetime: int = 86_400

    def principal(self, claims: Mapping[str, Any], *, is_jwt: bool) -> Principal:
        """Return the principal that verified claims describe.

        Args:
            claims: of the token.
            is_jwt: whether the token has to say everything itself (RFC 9068, section 2.2). In an introspection
                response all but the audience is optional, and a token without a subject stands for its client.

        Raises:
            InvalidCredential: if they break a rule.
        """
        for reason, _ in self.violations(claims, is_jwt=is_jwt):
            raise InvalidCredential(reason)
        found = {name: _texts(claim_at(claims, path)) for name, path in self.shown.items()}
        present = {name: value for name, value in found.items() if value is not None}
        return Principal(f"oauth:{self._subject(claims, is_jwt)}", "oauth", self.scopes(claims), present)

    def violations(self, claims: Mapping[str, Any], *, is_jwt: bool) -> Iterator[tuple[str, str]]:
        """Yield every rule that the claims break: the reason for the security event, and a sentence for the operator.

        Whether the token has expired comes after what makes it a token for this server: see `was_good`.
        """
        for name in ("iss", "exp", "iat") if is_jwt else ():
            if claims.get(name) is None:
                yield "claims", f"It has no {name}."
        issuer = claims.get("iss", self.issuer)
        if issuer != self.issuer:
            yield "issuer", f"iss is {quoted(issuer)}, and OAUTH_ISSUER is {self.issuer}."
        yield from self._audience_violations(claims)
        for path, value in self.required.items():
            found = _texts(claim_at(claims, path))
            if value not in ((found,) if isinstance(found, str) else found or ()):
                yield "required_claim", f"{path} is {quoted(claim_at(claims, path))}, and must be {value}."
        yield from self._time_violations(claims, is_jwt=is_jwt)
        if self._subject(claims, is_jwt) is None:
            names = ", ".join(self.subject_claims)
            yield "subject", f"It names no caller: {names} (OAUTH_SUBJECT_CLAIMS) must be text of 1 to 255 characters."

    def scopes(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Return the scopes of this server that a token grants. `*` is ours: no issuer can grant it."""
        granted = set[str]()
        for paths in self.scope_claims:
            value = _first(claims, paths)
            names = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
            for name in names:
                if isinstance(name, str):
                    own = name.removeprefix(self.scope_prefix)
                    granted.update(self.scope_map.get(name) or self.scope_map.get(own) or (own,))
        return frozenset(granted) - {"*", ""}

    def asked_for(self, scope: str) -> str:
        """Return the name by which a client asks the issuer for a scope: the first that stands for it.

        Addresses stand for callers: no client can ask for one, and this is shown to everyone.
        """
        if scope in _OF_OPENID:
            return scope
        names = (name for name, scopes in self.scope_map.items() if scope in scopes and "@" not in name)
        name = next(names, scope)
        return self.scope_prefix + name.removeprefix(self.scope_prefix)

    def _audience_violations(self, claims: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        name = next((name for name in self.audience_claims if claims.get(name) is not None), None)
        if name is None:
            yield "audience", f"It is for no server: it lacks {' and '.join(self.audience_claims)}."
        elif name == "aud":
            audience = claims["aud"]
            if self.audience not in (audience if isinstance(audience, list) else [audience]):
                yield "audience", f"aud is {quoted(audience)}, and must name {self.audience} (OAUTH_AUDIENCE)."
        if self.clients:
            found = [claims[name] for name in CLIENT_CLAIMS if claims.get(name) is not None]
            if not found or not all(isinstance(client, str) and client in self.clients for client in found):
                yield "client", f"It was issued to the client {quoted(found)}, which is not in OAUTH_ALLOWED_CLIENTS."

    def _time_violations(self, claims: Mapping[str, Any], *, is_jwt: bool) -> Iterator[tuple[str, str]]:
        now, times = time.time(), dict[str, float]()
        for name in ("exp", "nbf", *(("iat",) if is_jwt else ())):
            try:
                times |= {name: number(claims[name])} if name in claims else {}
            except InvalidCredential:
                yield "claims", f"{name} is no number of seconds."
        if times.get("exp", LATEST) <= now - LEEWAY:
            yield "expired", f"It expired {now - times['exp']:.0f} seconds ago."
        for name in ("nbf", "iat"):
            if times.get(name, 0) > now + LEEWAY:
                yield "claims", f"{name} is {times[name] - now:.0f} seconds ahead of this machine's clock."
        if {"exp", "iat"} <= times.keys() and (lifetime := times["exp"] - times["iat"]) > self.max_lifetime:
            # A stolen token must not be good for years.
            yield "lifetime", f"It lives for {lifetime:.0f} seconds, longer than OAUTH_MAX_TOKEN_LIFETIME."

    def _subject(self, claims: Mapping[str, Any], is_jwt: bool) -> str | None:
        name = _first(claims, (*self.subject_claims, *(() if is_jwt else ("client_id",))))
        return name if isinstance(name, str) and 0 < len(name) <= 255 and name.isprintable() else None


def number(value: object) -> float:
    """Return a time claim (RFC 7519, NumericDate).

    Raises:
        InvalidCredential: if it is not a number from 0 to 2**53. JSON parsers accept text and `true` for it, and NaN,
            which is neither earlier nor later than now.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise InvalidCredential("claims")
    return value


def claim_at(claims: Any, path: str) -> object:
    """Return a claim, or None.

    Args:
        claims: of the token.
        path: `realm_access.roles` is a claim of that name or, without it, `roles` in the object `realm_access`.
            `/resource_access/my.client/roles` is a JSON pointer (RFC 6901) to a member of objects.
    """
    if path.startswith("/"):
        for part in path[1:].split("/"):
            claims = claims.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(claims, dict) else None
        return claims
    if not isinstance(claims, dict):
        return None
    first, _, rest = path.partition(".")
    return claims[path] if path in claims else claim_at(claims.get(first), rest) if rest else None


def quoted(value: object) -> str:
    """Return a value of a token for a terminal: in ASCII, and at most 200 characters of it."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 200 else f"{text[:200]}…"


def scope_claims(text: str) -> tuple[Paths, ...]:
    """Read `scope,roles|groups`: claims that are read together, and with `|` the first of several that is there.

    Raises:
        ValueError: if it is written otherwise.
    """
    return tuple(_paths(entry, "|") for entry in text.split(","))


def claims_in(text: str) -> Paths:
    """Read a list of claims with commas.

    Raises:
        ValueError: if one has no name.
    """
    return _paths(text, ",")


def audience_claims(text: str) -> Paths:
    """Read a list of claims that may say what a token is for.

    Raises:
        ValueError: if one is another.
    """
    names = claims_in(text)
    if not set(names) <= {"aud", *CLIENT_CLAIMS}:
        raise ValueError(f"names a claim other than aud, {', '.join(CLIENT_CLAIMS)}")
    return names


def scope_map(text: str) -> Mapping[str, Paths]:
    """Read `Orders.Read=orders:read,Operator=orders:read orders:write`.

    Raises:
        ValueError: if it is written otherwise, or grants every scope.
    """
    found = dict[str, Paths]()
    for name, value in _pairs(text):
        scopes = tuple(value.split())
        if not _SCOPES.fullmatch(value) or "*" in scopes:
            raise ValueError(f"{shown(name)!r} must be followed by = and scopes of this server, without *")
        found[name] = (*found.get(name, ()), *scopes)
    return found


def required_claims(text: str) -> Mapping[str, str]:
    """Read `token_use=access,ver=2.0`.

    Raises:
        ValueError: if it is written otherwise.
    """
    return dict(_pairs(text))


def _paths(text: str, separator: str) -> Paths:
    paths = tuple(path.strip() for path in text.split(separator))
    if not all(paths) or any(re.search(r"//|~(?![01])", path) for path in paths if path.startswith("/")):
        raise ValueError("is not a list of claims such as scope,roles,realm_access.roles,/resource_access/a.b/roles")
    return paths


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    for entry in text.split(","):
        name, _, value = (part.strip() for part in entry.partition("="))
        if not name or not value:
            raise ValueError(f"{shown(entry.strip())!r} is not of the form name=value")
        yield name, value


def _first(claims: Mapping[str, Any], paths: Paths) -> object:
    return next((value for path in paths if (value := claim_at(claims, path)) is not None), None)


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
