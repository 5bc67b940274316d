"""What the users of real clients read when this server refuses them: its own sentence."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_chassis.auth.keys.format import new_id, new_key

from ..support.node import Node, find_node
from ..support.running import RunningServer, running_server
from .running import AuthorizationServer

SDK, INSPECTOR, REMOTE = "@modelcontextprotocol/sdk@1", "@modelcontextprotocol/inspector@2", "mcp-remote@0.15"
WRONG, MISSING = "The credential is not valid.", "Authentication is needed: send `Authorization: Bearer <key>`."
MALFORMED = "Invalid OAuth error response"


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Node:
    return find_node(request.config)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server of keys only."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def with_oauth(authorization_server: AuthorizationServer) -> Iterator[RunningServer]:
    """A server that accepts tokens as well."""
    with running_server(**authorization_server.settings) as running:
        yield running


@pytest.fixture
def token(authorization_server: AuthorizationServer) -> str:
    """A good token for another server."""
    return authorization_server.token("ci", "https://elsewhere.example/mcp")


def shown(node: Node, *command: str | Path) -> str:
    """Run a client, which must fail, and return all that it prints."""
    with tempfile.TemporaryDirectory() as home:
        places = {
            "HOME": home,
            "USERPROFILE": home,
            "MCP_REMOTE_CONFIG_DIR": home,
            "MCP_INSPECTOR_SECRET_STORE": "memory",
        }
        done = subprocess.run(
            [node.program, *map(str, command)],
            env=os.environ | places,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
    printed = done.stdout + done.stderr
    assert done.returncode != 0, printed
    return printed


def sdk(node: Node, server: RunningServer, credential: str, kind: str) -> str:
    """Connect the TypeScript SDK: with a key in a header, or with a token of its own OAuth provider."""
    # Node looks for modules beside the script and above it.
    with tempfile.TemporaryDirectory(dir=node.package(SDK), ignore_cleanup_errors=True) as directory:
        script = shutil.copy(Path(__file__).with_name("typescript_client.mjs"), directory)
        return shown(node, script, f"{server.url}/mcp", credential, kind)


def inspector(node: Node, server: RunningServer, credential: str) -> str:
    """Run the Inspector's command line with a header."""
    launcher = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
    call = ("--cli", f"{server.url}/mcp", "--transport", "http", "--method", "tools/list", "--stored-auth-only")
    return shown(node, node.package(INSPECTOR) / launcher, *call, "--header", f"Authorization: Bearer {credential}")


def remote(node: Node, server: RunningServer, credential: str) -> str:
    """Run mcp-remote with a header."""
    proxy = node.package(REMOTE) / "node_modules/mcp-remote/dist/proxy.js"
    return shown(node, proxy, f"{server.url}/mcp", "--allow-http", "--header", f"Authorization: Bearer {credential}")


def test_the_typescript_sdk_shows_the_sentence(
    node: Node, server: RunningServer, with_oauth: RunningServer, token: str
) -> None:
    key = new_key(new_id())
    assert WRONG in sdk(node, server, key, "header")
    assert WRONG in sdk(node, with_oauth, token, "header")
    # Without metadata its provider takes the server for an authorization server and registers, without the key.
    registering = sdk(node, server, key, "provider")
    assert MISSING in registering
    assert MALFORMED not in registering


def test_the_inspector_shows_the_sentence(
    node: Node, server: RunningServer, with_oauth: RunningServer, token: str
) -> None:
    assert WRONG in inspector(node, server, new_key(new_id()))
    assert WRONG in inspector(node, with_oauth, token)


def test_mcp_remote_shows_the_sentence(node: Node, server: RunningServer) -> None:
    """It sends its header with every request: to the documents of the issuer, and when it registers."""
    printed = remote(node, server, new_key(new_id()))
    assert WRONG in printed
    assert MALFORMED not in printed


def test_a_wrong_token_does_not_hide_who_issues_right_ones(
    with_oauth: RunningServer, authorization_server: AuthorizationServer, token: str
) -> None:
    answer = with_oauth.get("/.well-known/oauth-protected-resource/mcp", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["authorization_servers"] == [authorization_server.issuer]
