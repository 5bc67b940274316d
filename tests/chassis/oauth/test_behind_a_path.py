"""A server that clients reach below a path, which a real nginx strips: the official client finds all it needs."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from baking import TEMPLATE, load_module
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client

from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.running import SERVER, RunningServer, free_port, running_server, serves, text, wait_until
from .running import AuthorizationServer
from .test_official_client import Memory, who_am_i

pytestmark = pytest.mark.anyio

target_of = load_module(TEMPLATE / "scripts" / "client_config.py").target_of
WELL_KNOWN = "/.well-known/oauth-protected-resource"
NGINX = """
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server {{
        listen 127.0.0.1:{front};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        location /api/ {{ proxy_pass http://127.0.0.1:{port}/; }}
        {more}
    }}
}}
"""
STANDARD_PLACE = f"location = {WELL_KNOWN}/api/mcp {{{{ proxy_pass http://127.0.0.1:{{port}}; }}}}"


@contextmanager
def stripping(directory: Path, front: int, port: int, more: str = "") -> Iterator[None]:
    """Run an nginx that passes /api/ on without that path."""
    if shutil.which("nginx") is None:
        reason = "nginx is not installed: apt-get install nginx"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    text = NGINX.format(front=front, port=port, more=more.format(port=port))
    (directory / "nginx.conf").write_text(text, encoding="utf-8")
    directory.chmod(0o755)
    process = subprocess.Popen(["nginx", "-p", str(directory), "-c", "nginx.conf", "-e", "error.log"])
    try:
        wait_until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{front}/api/livez"))
        assert process.poll() is None, (directory / "error.log").read_text()
        yield
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    """Whether there is a response."""
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


@contextmanager
def behind(directory: Path, authorization: AuthorizationServer, more: str = "") -> Iterator[RunningServer]:
    """Run a server behind that nginx."""
    front = free_port()
    mcp = GuardedServer("a-server", tools=[who_am_i], events=EventLog())
    public = f"http://127.0.0.1:{front}/api"
    with running_server(mcp, **authorization.settings, public_url=public, trusted_proxies="127.0.0.1") as server:
        assert serves(server)
        with stripping(directory, front, server.port, more):
            yield server


async def test_the_official_client_gets_a_token_and_calls(
    authorization_server: AuthorizationServer, tmp_path: Path
) -> None:
    with behind(tmp_path, authorization_server) as server:
        url = target_of(server.settings, SERVER).url
        assert url == f"{server.settings.public_url}/mcp"
        challenge = httpx2.post(url, json={}, trust_env=False).headers["www-authenticate"]
        metadata = f"{server.settings.public_url}{WELL_KNOWN}/mcp"
        assert f'resource_metadata="{metadata}"' in challenge
        assert httpx2.get(metadata, trust_env=False).json()["resource"] == url
        missing = httpx2.get(f"{url}/", headers=server.credentials, trust_env=False)
        assert missing.json()["detail"].endswith("The MCP endpoint is /api/mcp.")
        auth = ClientCredentialsOAuthProvider(url, Memory(), "ci", "secret-of-ci", issuer=authorization_server.issuer)
        async with (
            httpx2.AsyncClient(auth=auth, trust_env=False) as http_client,
            Client(streamable_http_client(url, http_client=http_client)) as client,
        ):
            assert "oauth:ci" in text(await client.call_tool("who_am_i", {}))


def test_the_standard_place_is_served_where_the_proxy_passes_it_on(
    authorization_server: AuthorizationServer, tmp_path: Path
) -> None:
    """RFC 9728, section 3.1: the well-known part stands between the host and the path."""
    with behind(tmp_path, authorization_server, STANDARD_PLACE) as server:
        origin = (server.settings.public_url or "").removesuffix("/api")
        document = httpx2.get(f"{origin}{WELL_KNOWN}/api/mcp", trust_env=False).json()
        assert document["resource"] == f"{origin}/api/mcp"
