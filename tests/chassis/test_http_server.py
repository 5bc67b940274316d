"""Running the application on uvicorn, and stopping it in order."""

import secrets
import socket
import time
from typing import Any

import httpx2

from mcp_chassis.app import create_app
from mcp_chassis.http.server import make_server
from mcp_chassis.settings import Settings, load_settings
from secure_mcp_server.server import SERVER

from .support.running import running_server


def settings(**changes: Any) -> Settings:
    return load_settings(**{"_env_file": None, "api_key": secrets.token_urlsafe(32), **changes})


def test_uvicorn_gets_what_a_server_on_a_network_needs() -> None:
    made = settings(keep_alive_timeout=3, shutdown_timeout=4)
    config = make_server(create_app(made, SERVER), made).config
    assert not config.proxy_headers, "X-Forwarded-For is for our own layer"
    assert not config.server_header
    assert not config.access_log
    assert (config.timeout_keep_alive, config.timeout_graceful_shutdown) == (3, 4)
    assert config.limit_concurrency is None, "our own protocol counts connections, silent ones too"
    assert config.ws == "none"


def test_it_is_ready_while_it_runs_and_counts_its_connections() -> None:
    with running_server() as server:
        assert server.get("/readyz").status_code == 200
        with httpx2.Client(base_url=server.url, headers=server.credentials, trust_env=False) as client:
            assert client.get("/health").json()["open_connections"] >= 1


def test_beyond_the_most_connections_the_answer_is_503() -> None:
    with running_server(max_connections=2) as server:
        with socket.create_connection(("127.0.0.1", server.port)), socket.create_connection(("127.0.0.1", server.port)):
            time.sleep(0.05)
            answer = server.get("/livez")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "All connections are in use. Try again in a few seconds."


def test_a_header_block_that_does_not_end_is_refused_at_16_kilobytes() -> None:
    with running_server() as server:
        for size, expected in ((12_000, b""), (20_000, b"HTTP/1.1 400")):
            assert server.raw(b"GET /livez HTTP/1.1\r\nX: " + b"a" * size, timeout=0.5)[:12] == expected


def test_a_forwarded_address_without_a_trusted_proxy_is_ignored() -> None:
    """By default uvicorn believes `X-Forwarded-For` of every local process."""
    with running_server(max_failed_auth_per_minute=1) as server:
        wrong = [{"Authorization": "Bearer x", "X-Forwarded-For": f"192.0.2.{number}"} for number in range(2)]
        assert [server.get("/mcp", headers=headers).status_code for headers in wrong] == [401, 429]
