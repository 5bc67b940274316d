"""Starts the authorization server: npm's `oidc-provider`, on a free port of 127.0.0.1."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import pytest

from ..support.running import free_port, wait_until

SCRIPT = Path(__file__).with_name("authorization_server.mjs")
PACKAGE = "oidc-provider@9"
NODE_IS_MISSING = (
    "Node.js is missing, and these tests start an authorization server with it. Install it: `apt install nodejs npm`, "
    "`brew install node` or `winget install OpenJS.NodeJS.LTS`."
)


@dataclass(frozen=True)
class AuthorizationServer:
    """A running authorization server, whose signing key can be changed."""

    issuer: str

    def rotate(self) -> None:
        """Sign with another key from now on, and publish that one only."""
        httpx2.post(f"{self.issuer}/rotate", trust_env=False).raise_for_status()

    def token(self, client: str, resource: str, scope: str = "notes:read") -> str:
        """Return an access token for one of the clients of the script (client credentials grant)."""
        answer = self.ask("/token", client, grant_type="client_credentials", resource=resource, scope=scope)
        token: str = answer["access_token"]
        return token

    def ask(self, path: str, client: str, **form: str) -> Any:
        """Send a form as one of the clients of the script, and return the JSON answer."""
        answer = httpx2.post(
            self.issuer + path, data=form, auth=httpx2.BasicAuth(client, f"secret-of-{client}"), trust_env=False
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


@contextmanager
def running_authorization_server(directory: Path) -> Iterator[AuthorizationServer]:
    """Start the server and stop it at the end.

    Args:
        directory: where npm installs it, unless it is there already.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _give_up(NODE_IS_MISSING)
    if not (directory / "node_modules" / "oidc-provider").is_dir():
        _install(npm, directory)
    # Node looks for modules beside the script.
    script = shutil.copy(SCRIPT, directory)
    port = free_port()
    with (directory / "log").open("w+b") as log:
        process = subprocess.Popen([node, script, str(port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or b"listening" in (directory / "log").read_bytes())
            assert process.poll() is None, (directory / "log").read_text()
            yield AuthorizationServer(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


def _install(npm: str, directory: Path) -> None:
    options = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
    done = subprocess.run(
        [npm, "install", *options, "--prefix", str(directory), PACKAGE],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        _give_up(f"npm could not install {PACKAGE}:\n{done.stderr[-1000:]}")


def _give_up(reason: str) -> NoReturn:
    """Skip on a machine that lacks something; in CI nothing may be lacking."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
