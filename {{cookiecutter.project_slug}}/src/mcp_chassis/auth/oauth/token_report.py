"""`check --token`: whether the server would accept an access token, as which caller, with which scopes, or why not.

It asks no other machine. Only the issuer's keys can tell whether a token is genuine: without `--jwks` it says so.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cli.check import print_findings
from ...middleware.authentication import bearer_token
from ...rooms import Finding
from ...service import Service, unchecked_server
from ..keys.format import PREFIX
from ..keys.store import usable_keys
from ..verifier import InvalidCredential
from .introspection import KeyForm
from .jwks import key_of, signing_keys
from .rules import Rules
from .settings import OAuthSettings

if TYPE_CHECKING:
    from ...settings import Settings

_MAX_FILE = 262_144  # bytes
_SENTENCES = {
    "signature": "It was not signed with the key of its kid: it is forged, or of another issuer or environment.",
    "unknown_key": "The key set has no key of its kid. Save it again: the issuer may have changed its keys.",
    "algorithm": "Its algorithm is not that of the issuer's key.",
    "header": "Its header is not valid, or demands an extension (crit).",
    "claims": "Its claims cannot be read.",
}


def add_option(check: argparse.ArgumentParser) -> None:
    """Add `--token` and `--jwks` to the command `check`."""
    check.add_argument(
        "--token", metavar="FILE", help="say what the server makes of an access token (-: standard input)"
    )
    check.add_argument("--jwks", metavar="FILE", help="the issuer's key set, to verify the signature of that token too")
    usual = check.get_default("run")

    def run(options: argparse.Namespace, service: Service, settings: "Settings") -> int:
        if options.token is None:
            return int(usual(options, service, settings))
        found = list(_judged(options, service, settings))
        print_findings(found)
        return int(any(finding.level == "FAIL" for finding in found))

    check.set_defaults(run=run)


def setup(own: OAuthSettings, rules: Rules) -> Iterator[Finding]:
    """Yield what is expected of tokens, and how the issuer is reached."""
    reach, url = own.reach, own.oauth_jwks_url or rules.issuer
    way = f", trusting {own.oauth_ca_file}" if own.oauth_ca_file is not None else ""
    way += ", through a proxy, which resolves its name" if reach.fetcher(url).proxy else ""
    yield Finding("OK", "issuer", f"{rules.issuer} ({own.oauth_provider}), keys from {url}{way}")
    clients = f"; clients: {', '.join(sorted(rules.clients))}" if rules.clients else ""
    yield Finding("OK", "audience", f"{rules.audience} in {' or '.join(rules.audience_claims)}{clients}")
    yield Finding("OK", "caller", f"named by {' or '.join(rules.subject_claims)}")
    asked = f"; clients ask for {rules.scope_prefix}<scope>" if rules.scope_prefix else ""
    yield Finding("OK", "scopes", f"from {' and '.join(map(' or '.join, rules.scope_claims))}{asked}")


def _judged(options: argparse.Namespace, service: Service, settings: "Settings") -> Iterator[Finding]:
    own = settings.room(OAuthSettings)
    rules = own.rules_of(settings.resource_url)
    if rules is None:
        yield Finding("FAIL", "token", "No access tokens are accepted. Set AUTH_MODE=oauth and OAUTH_ISSUER.")
        return
    try:
        token = _token_in(options.token)
        keys = signing_keys(json.loads(_read(options.jwks))) if options.jwks is not None else None
    except (OSError, ValueError, RecursionError, AttributeError):
        what = "The file cannot be read, or is no token or no key set. Use - to paste a token into standard input."
        yield Finding("FAIL", "token", what)
        return
    except InvalidCredential:
        what = "It is not one bearer token (RFC 6750): at most 8,192 letters, digits and -._~+/ without spaces."
        yield Finding("FAIL", "token", what)
        return
    if token.startswith(PREFIX):
        yield Finding("FAIL", "token", "It has the form of an API key: see `keys list`. It is no access token.")
    else:
        api_key = settings.api_key.get_secret_value() if settings.api_key is not None else ""
        is_key_like = KeyForm(api_key, usable_keys(settings).records).matches(token)
        known = unchecked_server(service).access.scopes
        yield from _access_token(token, keys, rules, known=known, opaque=_opaque(own, is_key_like=is_key_like))


def _access_token(
    token: str, keys: list[dict[str, Any]] | None, rules: Rules, *, known: frozenset[str], opaque: Finding
) -> Iterator[Finding]:
    from .jwt_verifier import header_of, header_violations, unverified_claims, verified_claims  # noqa: PLC0415

    try:
        header = header_of(token)
        if header is None:
            yield opaque
            return
        claims = unverified_claims(token)
        broken = [*header_violations(header), *rules.violations(claims, is_jwt=True)]
        if not broken and keys is not None:
            verified_claims(token, header["alg"], key_of(header.get("kid"), keys))
    except InvalidCredential as error:
        broken = [(error.reason, _SENTENCES[error.reason])]
    if broken:
        yield from (Finding("FAIL", "token", f"refused ({reason}): {sentence}") for reason, sentence in broken)
        return
    principal = rules.principal(claims, is_jwt=True)
    yield Finding("OK", "token", f"accepted as {principal.id}" + ("" if keys else ", if its signature is valid"))
    if keys is None:
        text = "not checked: this needs the issuer's keys. Save what its jwks_uri shows, and name the file with --jwks"
        yield Finding("WARN", "signature", text)
    held = sorted(principal.scopes & known)
    if held or not known:
        yield Finding("OK", "scopes", " ".join(held) or "none are needed here")
    else:
        names = " and ".join(map(" or ".join, rules.scope_claims))
        text = f"none of {' '.join(sorted(known))}. They are read from {names}: see OAUTH_SCOPE_CLAIMS, OAUTH_SCOPE_MAP"
        yield Finding("WARN", "scopes", text)


def _opaque(own: OAuthSettings, *, is_key_like: bool) -> Finding:
    if own.oauth_introspection_url is None:
        return Finding("FAIL", "token", f"refused (unknown): It is not a signed JWT. {own.profile.opaque}")
    if is_key_like:
        text = "refused (key_form): It may be an API key, which no issuer is shown. See docs/authentication.md."
        return Finding("FAIL", "token", text)
    text = "It is not a signed JWT: only OAUTH_INTROSPECTION_URL knows whether it is valid, and this check asks no one."
    return Finding("WARN", "token", text)


def _token_in(place: str) -> str:
    text = _read(place).removeprefix("Bearer ")
    return bearer_token([(b"authorization", f"Bearer {text}".encode())]) or ""


def _read(place: str) -> str:
    """Return the text in a file, or in standard input, without white space around it."""
    with open(sys.stdin.fileno() if place == "-" else Path(place), "rb", closefd=place != "-") as file:
        return file.read(_MAX_FILE).decode("utf-8").strip()
