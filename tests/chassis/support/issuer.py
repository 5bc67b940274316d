"""An authorization server of our own on 127.0.0.1: metadata, keys, and tokens good and bad."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

METADATA = "/.well-known/oauth-authorization-server"
KEYS = "/keys"
INTROSPECT = "/introspect"


class Issuer:
    """What the tests may change: `documents` (by path), `status` (of every answer), the signing key.

    `opaque` holds the claims of the opaque tokens that are active, and may be changed too. `requests` holds every path
    that was asked for, `shown` every token.
    """

    def __init__(self, origin: str, path: str = "") -> None:
        self.url = origin + path
        self.origin = origin
        self.status = 200
        self.requests: list[str] = []
        self.opaque: dict[str, dict[str, Any]] = {}
        self.shown: list[str] = []
        self.documents: dict[str, Any] = {}
        where = METADATA + path.rstrip("/")
        self.documents[where] = {"issuer": self.url, "jwks_uri": origin + KEYS}
        self.rotate("key-1")

    @property
    def fetches(self) -> int:
        """How often the keys were fetched."""
        return self.requests.count(KEYS)

    @property
    def public_pem(self) -> bytes:
        """The public half of the signing key."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private_key.public_key().public_bytes(serialization.Encoding.PEM, form)

    def rotate(self, kid: str) -> None:
        """Sign with a new key from now on, and publish that one only."""
        self.kid = kid
        self.private_key = ec.generate_private_key(ec.SECP256R1())
        self.publish(public_jwk(self.private_key, kid))

    def publish(self, *jwks: dict[str, Any]) -> None:
        """Publish exactly these keys."""
        self.documents[KEYS] = {"keys": list(jwks)}

    def claims(self, audience: str, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token. A change to None leaves the claim out."""
        now = int(time.time())
        good = {"iss": self.url, "aud": audience, "sub": "alice", "iat": now, "exp": now + 300, "scope": "notes:read"}
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(self, audience: str, *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """Return a token signed with the present key."""
        header = {"kid": self.kid, "typ": "at+jwt"} | (headers or {})
        present = {name: value for name, value in header.items() if value is not None}
        return jwt.encode(self.claims(audience, **changes), self.private_key, algorithm="ES256", headers=present)


def public_jwk(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    """Return the public half of `key` as an issuer publishes it."""
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": "ES256"}


def oauth(issuer_url: str) -> dict[str, Any]:
    """Return the settings of a server that takes this issuer's tokens."""
    return {"auth_mode": "oauth", "oauth_issuer": issuer_url, "oauth_allow_http_issuer": True}


def introspection(issuer: Issuer) -> dict[str, Any]:
    """Return the settings of a server that asks this issuer about opaque tokens as well."""
    client = {"oauth_client_id": "mcp", "oauth_client_secret": "s" * 32}
    return oauth(issuer.url) | client | {"oauth_introspection_url": issuer.url + INTROSPECT}


@contextmanager
def running_issuer(path: str = "") -> Iterator[Issuer]:
    """Start an issuer whose identifier ends in `path`, and stop it at the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.requests.append(self.path)
            self.answer(issuer.documents.get(self.path))

        def do_POST(self) -> None:
            issuer.requests.append(self.path)
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            (token,) = form["token"]
            issuer.shown.append(token)
            self.answer({"active": token in issuer.opaque} | issuer.opaque.get(token, {}))

        def answer(self, document: Any) -> None:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(issuer.status if document is not None else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = Issuer(f"http://127.0.0.1:{server.server_port}", path)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join(5)
