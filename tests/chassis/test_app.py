"""The layers together, the routes below them, and what of them is on."""

import json
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette

from mcp_chassis.app import create_app
from mcp_chassis.settings import load_settings
from secure_mcp_server.server import SERVER

from .support.asgi import ask, http_scope
from .support.running import RunningServer, running_server

LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"
ORIGIN = "https://app.example.com"


def app(**settings: Any) -> Starlette:
    return create_app(load_settings(**{"_env_file": None, "api_key": KEY, **settings}), SERVER)


def layers(**settings: Any) -> list[str]:
    return [getattr(layer.cls, "__name__", "") for layer in app(**settings).user_middleware]


# --- what is on ---


def test_the_order_of_the_layers() -> None:
    """Refusals of a layer pass the layers above it, and only those: the order is the design."""
    assert layers(blocked_clients="192.0.2.1") == [
        "RequestContextLayer",
        "BlockedClientsLayer",
        "HostAndOriginLayer",
        "CorsLayer",
        "AuthenticationLayer",
        "RateLimitLayer",
        "AuthorizationLayer",
        "RequestBodyLayer",
        "ScopeLayer",
        "MessageLayer",
    ]


def test_only_the_rate_limit_can_be_left_out() -> None:
    assert set(layers()) - set(layers(enable_rate_limit=False, enable_auth=False)) == {"RateLimitLayer"}


# --- routes ---


@pytest.mark.parametrize(
    ("path", "without", "with_key"),
    [
        ("/livez", 200, 200),
        ("/readyz", 200, 200),
        ("/health", 200, 200),
        ("/mcp", 401, 405),
        ("/security/events", 401, 200),
        ("/nothing", 401, 404),
        ("/livez/", 401, 404),
        ("/docs", 401, 404),
        ("/", 401, 404),
    ],
)
def test_who_gets_what(server: RunningServer, path: str, without: int, with_key: int) -> None:
    assert server.get(path).status_code == without
    assert server.get(path, headers=server.credentials).status_code == with_key


def test_without_oauth_nothing_promises_a_login(server: RunningServer) -> None:
    """Clients look at all of these before they give up, and some send what they send to the endpoint, too."""
    suffixes = ("oauth-protected-resource", "oauth-authorization-server", "openid-configuration")
    paths = [f"/.well-known/{suffix}{end}" for suffix in suffixes for end in ("", "/mcp")]
    for path in (*paths, "/mcp/.well-known/openid-configuration"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, server.credentials):
            answer = server.get(path, headers=headers)
            assert (answer.status_code, answer.headers.get("www-authenticate")) == (404, None), path
    assert server.post(LIST_TOOLS, headers={"Authorization": "Bearer wrong"}).status_code == 401, "none was counted"


@pytest.mark.parametrize("path", ["/mcp%0A", "/mcp%0a%0a", "/security/events%0A", "/health%0A", "/mcp%00", "/mcp;a"])
def test_no_path_is_almost_another(server: RunningServer, path: str) -> None:
    """`$` in a pattern also matches before a newline: the router would serve what no layer has recognised."""
    assert server.get(path, headers=server.credentials).status_code == 404
    assert server.post(LIST_TOOLS, path=path).status_code == 404


def test_a_path_with_a_slash_at_its_end_is_not_redirected(server: RunningServer) -> None:
    """The redirect would be built from the Host header."""
    answer = server.get("/health/", headers=server.credentials, follow_redirects=False)
    assert answer.status_code == 404
    assert "location" not in answer.headers


def test_the_events_are_closed_even_where_nothing_else_is() -> None:
    with running_server(enable_auth=False) as open_server:
        assert open_server.post(LIST_TOOLS, headers={}).status_code == 200
        assert open_server.get("/security/events").status_code == 401
        assert open_server.get("/security/events%0A").status_code != 200
        assert open_server.get("/security/events", headers=open_server.credentials).status_code == 200
        assert open_server.get("/health").json() == {"status": "ok"}


def test_the_paths_are_settings() -> None:
    with running_server(mcp_endpoint="/api/mcp", health_endpoint="/status") as moved:
        assert moved.post(LIST_TOOLS, path="/api/mcp").status_code == 200
        assert moved.post(LIST_TOOLS, path="/mcp").status_code == 404
        assert moved.get("/status").json() == {"status": "ok"}
        assert moved.get("/health").status_code == 401
        assert moved.post([LIST_TOOLS], path="/api/mcp").status_code == 400, "the body is checked there, too"


def test_health_tells_a_known_caller_more(server: RunningServer) -> None:
    assert server.get("/health").json() == {"status": "ok"}
    report = server.get("/health", headers=server.credentials).json()
    assert report["environment"] == "development"
    assert report["open_connections"] >= 1
    assert report["uptime_seconds"] >= 0


# --- layers in a row ---


def test_refusals_carry_what_the_outer_layers_add(server: RunningServer) -> None:
    refusals = [
        server.get("/mcp"),
        server.get("/nothing", headers=server.credentials),
        server.get("/health", headers={"Host": "evil.example"}),
        server.get("/livez", headers={"Origin": "https://evil.example"}),
        server.post(LIST_TOOLS, headers={**server.credentials, "Content-Type": "text/plain"}),
    ]
    assert [refusal.status_code for refusal in refusals] == [401, 404, 421, 403, 415]
    for refusal in refusals:
        assert refusal.headers["content-type"] == "application/problem+json"
        assert refusal.json()["request_id"] == refusal.headers["x-request-id"]
        assert refusal.headers["x-content-type-options"] == "nosniff"
        assert "server" not in refusal.headers


def test_a_browser_app_of_a_trusted_origin_can_read_its_refusals() -> None:
    with running_server(trusted_origins=ORIGIN, max_requests_per_minute=1) as server:
        headers = {"Origin": ORIGIN}
        refused = server.post(LIST_TOOLS, headers=headers)
        assert refused.status_code == 401
        limited = server.post(LIST_TOOLS, headers=headers)
        assert limited.status_code == 429
        for answer in (refused, limited):
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            exposed = answer.headers["access-control-expose-headers"].lower()
            assert {"www-authenticate", "retry-after", "x-request-id"} <= set(exposed.split(", "))


@pytest.mark.anyio
async def test_a_preflight_is_answered_for_trusted_origins_only() -> None:
    trusting = app(trusted_origins=ORIGIN)

    async def preflight(origin: str, method: str = "POST") -> tuple[int, str | None]:
        headers = [
            (b"host", b"127.0.0.1:8080"),
            (b"origin", origin.encode()),
            (b"access-control-request-method", method.encode()),
            (b"access-control-request-headers", b"authorization, content-type, mcp-method"),
        ]
        answer = await ask(trusting, http_scope("/mcp", method="OPTIONS", headers=headers))
        return answer.status, answer.header("access-control-allow-origin")

    assert await preflight(ORIGIN) == (200, ORIGIN)
    assert await preflight("https://evil.example") == (403, None)
    assert (await preflight(ORIGIN, "DELETE"))[0] == 400


def test_the_limit_counts_callers_and_spares_probes() -> None:
    with running_server(max_requests_per_minute=2) as server:
        assert [server.post(LIST_TOOLS).status_code for _ in range(3)] == [200, 200, 429]
        assert [server.get("/health").status_code for _ in range(3)] == [200, 200, 429]
        assert {server.get(path).status_code for path in ("/livez", "/readyz") for _ in range(5)} == {200}


def test_wrong_credentials_are_limited_and_the_right_one_is_served() -> None:
    with running_server(max_failed_auth_per_minute=2) as server:
        wrong = {"Authorization": "Bearer wrong"}
        assert [server.get("/mcp", headers=wrong).status_code for _ in range(3)] == [401, 401, 429]
        assert server.post(LIST_TOOLS).status_code == 200


def test_hsts_follows_the_public_url() -> None:
    with running_server(public_url="https://mcp.example.com") as server:
        assert "strict-transport-security" in server.get("/livez").headers
    with running_server() as server:
        assert "strict-transport-security" not in server.get("/livez").headers


def test_another_mcp_server_can_be_served_behind_the_same_layers() -> None:
    other = MCPServer("other")

    @other.tool()
    def answer() -> int:
        """Tell it."""
        return 42

    with running_server(other) as server:
        assert server.post(LIST_TOOLS, headers={}).status_code == 401
        result = server.call("answer", {}).json()["result"]
        assert result["structuredContent"] == {"result": 42}


def test_what_the_server_says_of_itself(server: RunningServer) -> None:
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
    answer = server.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    about = answer.json()["result"]["serverInfo"]
    assert about["name"] == SERVER.name
    assert json.dumps(about).isascii()


@pytest.mark.parametrize("method", ["tools/list", "ping", "prompts/list", "resources/list"])
def test_params_that_are_null_are_params_that_are_left_out(server: RunningServer, method: str) -> None:
    """JSON-RPC leaves the member out; clients in use send null."""
    message = {"jsonrpc": "2.0", "id": 7, "method": method}
    expected, got = server.post(message), server.post(message | {"params": None})
    assert (got.status_code, got.json()) == (200, expected.json())
    assert "result" in got.json()


def test_a_notification_may_have_null_params(server: RunningServer) -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/initialized", "params": None}
    assert server.post(message).status_code == 202


@pytest.mark.parametrize("path", ["/mcp/", "/MCP", "/", "/sse"])
def test_a_path_that_is_nearly_right_is_answered_with_the_right_one(server: RunningServer, path: str) -> None:
    answer = server.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, path=path)
    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("The MCP endpoint is /mcp.")
