"""What is fuzzed: readers of untrusted bytes, each compared with another reader or with its own rules.

A target takes any bytes. It returns if the code under test reads or refuses them as it should, and raises otherwise.
"""

import asyncio
import base64
import json
import math
import posixpath
import string
import tempfile
import time
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
import jwt
from chassis import test_http_differential as differential
from chassis.support.issuer import public_jwk
from cryptography.hazmat.primitives.asymmetric import ec

from mcp_chassis.approval.lock import LockError, differences, locked_digests
from mcp_chassis.auth.oauth.jwt_verifier import JwtVerifier, header_of, header_violations, unverified_claims
from mcp_chassis.auth.oauth.rules import LEEWAY, Rules
from mcp_chassis.auth.verifier import InvalidCredential
from mcp_chassis.http.framing import BadRequest, RequestReader
from mcp_chassis.http.strict_json import InvalidJson, parse_json
from mcp_chassis.middleware.authentication import bearer_token
from mcp_chassis.sinks import InvalidInput, fill_url, validate_file_path
from mcp_chassis.sinks.urls import read_url

CORPUS = Path(__file__).parent / "corpus.json"
"""Inputs to begin with, in Latin-1: every character is one byte."""
_TOKEN = f"{string.ascii_letters}{string.digits}-._~+/".encode()
"""What a bearer token consists of, before its `=` (RFC 6750, section 2.1)."""


def http(data: bytes) -> None:
    """Compare our reader with httptools and h11, and with itself when bytes arrive in pieces."""
    served = differential.check(data)
    for size in (1, 7):
        reader, count = RequestReader(), 0
        try:
            for start in range(0, len(data), size):
                reader.waiting += data[start : start + size]
                while reader.take():
                    count += reader.ended
        except BadRequest:
            pass
        assert count >= served, "another number of requests in pieces"


def strict_json(data: bytes) -> None:
    """Compare strict JSON with the standard library and each further rule, both ways."""
    try:
        value = parse_json(data)
    except InvalidJson:
        assert _json_is_refused(data), "refused, and no rule is broken"
    else:
        assert not _json_is_refused(data), "accepted, and a rule is broken"
        assert repr(value) == repr(json.loads(data))


def _json_is_refused(data: bytes) -> bool:
    found = dict.fromkeys(("duplicate", "number"), False)

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found["duplicate"] |= len({name for name, _ in pairs}) < len(pairs)
        return dict(pairs)

    def number(digits: str) -> float:
        found["number"] |= len(digits) > 40 or not math.isfinite(float(digits))
        return 0.0

    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=members, parse_float=number, parse_int=number, parse_constant=number)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return True
    return any(found.values()) or depth(value) > 64 or len(data) > 20_000


def bearer(data: bytes) -> None:
    """Compare the token of a header with one found by other means."""
    scheme, _, rest = data.strip(b" \t").partition(b" ")
    token, letters = rest.lstrip(b" "), rest.lstrip(b" ").rstrip(b"=")
    is_good = scheme.lower() == b"bearer" and bool(letters) and not letters.translate(None, _TOKEN)
    try:
        found = bearer_token([(b"host", b"a"), (b"authorization", data)])
    except InvalidCredential:
        assert not is_good or len(letters) > 8192
    else:
        assert is_good
        assert found == token.decode("ascii")


class _Keys:
    """The keys of an issuer, without one."""

    def __init__(self) -> None:
        self.private = ec.derive_private_key(3, ec.SECP256R1())
        self.public = public_jwk(self.private, "k")

    async def key(self, kid: str | None) -> dict[str, Any] | None:
        return self.public if kid in {None, "k"} else None


@cache
def _keys() -> _Keys:
    return _Keys()


def token(data: bytes) -> None:
    """Verify a text as it is, and a token whose header and claims are the lines of the text, with a good signature."""
    keys, issuer, audience = _keys(), "https://issuer.example.com", "https://mcp.example.com/mcp"
    rules = Rules(issuer=issuer, audience=audience)
    header, _, claims = data.partition(b"\n")
    parts = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims))
    signature = jwt.get_algorithm_by_name("ES256").sign(parts, keys.private)
    signed = (parts + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
    for text in (data.decode("latin-1"), signed):
        verifier = JwtVerifier(rules=rules, keys=keys)  # type: ignore[arg-type]
        try:
            if (found := header_of(text)) is not None:
                list(header_violations(found))
                list(rules.violations(unverified_claims(text), is_jwt=True))
            principal = asyncio.run(verifier.verify(text))
        except InvalidCredential:
            continue
        if principal is not None:
            good = json.loads(claims)
            assert text == signed
            assert good["iss"] == issuer
            assert audience in good["aud"]
            assert good["exp"] > time.time() - LEEWAY
            assert principal.id == f"oauth:{good['sub']}"
            assert "*" not in principal.scopes


def url(data: bytes) -> None:
    """Compare what is read of a URL with two other readers, and a value in a template with the template."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        target = read_url(text, schemes=("https",))
    except InvalidInput:
        pass
    else:
        other, third = urlsplit(text), httpx2.URL(text)
        for host in (other.hostname or "", third.raw_host.decode().strip("[]")):
            assert target.host.strip("[]") == (str(ip_address(host)) if target.is_address else host)
        assert (other.username, other.password, third.userinfo) == (None, None, b"")
        assert target.port == 443
        assert not target.is_address or ip_address(target.host.strip("[]")).is_global
    try:
        filled = fill_url("https://a.example.com/x/{value}/y?z={value}", value=text)
    except InvalidInput:
        return
    parts = urlsplit(filled)
    assert (parts.netloc, parts.fragment) == ("a.example.com", "")
    first, name, last = parts.path.removeprefix("/").split("/")
    assert (first, unquote(name), last) == ("x", text, "y")
    assert unquote(parts.query) == f"z={text}"


def path(data: bytes) -> None:
    """Join an accepted path to a directory as two systems do: it stays below."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        checked = str(validate_file_path(text))
    except InvalidInput:
        return
    assert checked == text
    assert posixpath.normpath(posixpath.join("/root", text)) == f"/root/{text}"
    windows = PureWindowsPath("C:/root", text)
    assert windows.is_relative_to("C:/root")
    assert ".." not in windows.parts
    assert not PureWindowsPath(text).is_reserved() if hasattr(PureWindowsPath, "is_reserved") else True


def lock(data: bytes) -> None:
    """Read a lock file: what cannot be used is one kind of error."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "tools.lock.json"
        file.write_bytes(data)
        try:
            lines, digests = differences(file, {}), locked_digests(file)
        except LockError:
            return
    assert len(lines) >= len(digests), "a locked tool that is gone is a difference"
    parse_json(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (http, strict_json, bearer, token, url, path, lock)
}


def corpus(name: str) -> list[bytes]:
    """Return the inputs to begin with."""
    texts: dict[str, list[str]] = json.loads(CORPUS.read_text(encoding="utf-8"))
    return [text.encode("latin-1") for text in texts[name]]
