"""Starts the authorization server: npm's `oidc-provider`, on a free port of 127.0.0.1."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from ..support.node import Node
from ..support.running import free_port, wait_until

SCRIPT = Path(__file__).with_name("authorization_server.mjs")
PACKAGE = "oidc-provider@9"


@dataclass(frozen=True)
class AuthorizationServer:
    """A running authorization server, whose signing key can be changed."""

    issuer: str

    @property
    def settings(self) -> dict[str, Any]:
        """What a resource server has to know of it, to verify tokens of both kinds."""
        return {
            "auth_mode": "oauth",
            "oauth_issuer": self.issuer,
            "oauth_allow_http_issuer": True,
            "oauth_introspection_url": f"{self.issuer}/token/introspection",
            "oauth_client_id": "resource-server",
            "oauth_client_secret": "secret-of-resource-server",
        }

    def rotate(self) -> None:
        """Sign with another key from now on, and publish that one only."""
        httpx2.post(f"{self.issuer}/rotate", trust_env=False).raise_for_status()

    def trust(self, jwk: dict[str, Any]) -> None:
        """Accept the assertions of an enterprise's identity provider, signed with this key."""
        httpx2.post(f"{self.issuer}/trust", json=jwk, trust_env=False).raise_for_status()

    def token(self, client: str, resource: str, scope: str = "notes:read") -> str:
        """Return an access token for one of the clients of the script (client credentials grant)."""
        answer = self.ask("/token", client, grant_type="client_credentials", resource=resource, scope=scope)
        token: str = answer["access_token"]
        return token

    @property
    def exchanges(self) -> int:
        """How often it was asked to exchange a token."""
        return int(httpx2.get(f"{self.issuer}/exchanges", trust_env=False).text)

    def shaped_token(self, path: str, claims: dict[str, Any]) -> str:
        """Return a token of the issuer at that path, with these claims in place of its own; None leaves one out."""
        httpx2.post(f"{self.issuer}/shape?{path}", json=claims, trust_env=False).raise_for_status()
        form = {"grant_type": "client_credentials", "resource": "https://mcp.example.com/mcp", "scope": "notes:read"}
        token: str = self.ask(f"{path}/token", "ci", **form)["access_token"]
        return token

    def ask(self, path: str, client: str, **form: str) -> Any:
        """Send a form as one of the clients of the script, and return the JSON answer."""
        answer = httpx2.post(
            self.issuer + path, data=form, auth=httpx2.BasicAuth(client, f"secret-of-{client}"), trust_env=False
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


@contextmanager
def running_authorization_server(node: Node) -> Iterator[AuthorizationServer]:
    """Start the server and stop it at the end."""
    # Node looks for modules beside the script and above it.
    with tempfile.TemporaryDirectory(dir=node.package(PACKAGE), ignore_cleanup_errors=True) as directory:
        script, log, port = shutil.copy(SCRIPT, directory), Path(directory, "log"), free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [node.program, script, str(port)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            wait_until(lambda: process.poll() is not None or b"listening" in log.read_bytes(), seconds=30)
            assert process.poll() is None, log.read_text()
            yield AuthorizationServer(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()
