"""DNS rebinding and foreign web pages: a browser that a page has turned against this server."""

import re
from collections.abc import Iterator

import pytest

from ..support.running import RunningServer, running_server
from .wire import ACCEPT, JSON, Answer, Header, key_of, send

APP = "https://app.example.com"
PROBES = ["/livez", "/readyz"]
ROUTES = ["/mcp", "/health", "/security/events", "/nothing", "/livez/", "/livez%00"]
MCP_HEADERS = "authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, mcp-session-id"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server that trusts the pages of one origin."""
    with running_server(trusted_origins=APP, max_failed_auth_per_minute=10_000) as running:
        yield running


def origin(value: str) -> Header:
    """Return the header that a browser puts on a page's request."""
    return "Origin", value


def preflight(server: RunningServer, page: str, *, host: str | None = None) -> Answer:
    """Ask as a browser does before a page's request."""
    ask: list[Header] = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", MCP_HEADERS)]
    return send(server, "OPTIONS", "/mcp", [origin(page), *ask], host=host)


def strange_hosts(port: int) -> list[str]:
    """Return values of `Host` that a rebound name, a loose pattern or a confused proxy would let in."""
    return [
        "evil.example",
        f"evil.example:{port}",
        f"localhost:{port}.evil.example",
        f"127.0.0.1:{port}.evil.example",
        f"127.0.0.1.evil.example:{port}",
        f"localhost:{port}@evil.example",
        f"evil.example@127.0.0.1:{port}",
        f"localhost:{port}#.evil.example",
        f"localhost:{port}, evil.example",
        f"localhost.:{port}",
        "localhost",
        f"localhost:{port + 1}",
        f"localhost:0{port}",
        f"0.0.0.0:{port}",
        f"2130706433:{port}",
        f"[::]:{port}",
        "",
    ]


def strange_origins(port: int) -> list[str]:
    """Return values of `Origin` that are not the trusted one and not the server's own."""
    return [
        "https://evil.example",
        "null",
        "http://localhost:80.evil.example",
        f"http://localhost:{port}.evil.example",
        f"http://127.0.0.1:{port}@evil.example",
        f"{APP}.evil.example",
        f"{APP}:8443",
        f"{APP}/",
        f"{APP} https://evil.example",
        "http://app.example.com",
        "https://sub.app.example.com",
        "https://evilapp.example.com",
        "app.example.com",
        "*",
        "",
        "file://",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    ]


@pytest.mark.parametrize("index", range(len(strange_hosts(0))))
def test_a_strange_host_is_refused_on_every_route_even_with_the_key(server: RunningServer, index: int) -> None:
    host = strange_hosts(server.port)[index]
    is_host = re.fullmatch(r"([a-z0-9.]+|\[::\])(:[1-9]\d*)?", host)
    status = 421 if is_host else 400
    for path in ROUTES:
        assert send(server, "GET", path, [key_of(server)], host=host).status == status, (host, path)
    for path in PROBES:
        assert send(server, "GET", path, host=host).status == (200 if is_host else 400), (host, path)
    assert preflight(server, APP, host=host).status == status


@pytest.mark.parametrize("index", range(len(strange_origins(0))))
def test_a_strange_origin_is_refused_on_every_route_even_with_the_key(server: RunningServer, index: int) -> None:
    page = strange_origins(server.port)[index]
    for path in [*ROUTES, *PROBES]:
        answer = send(server, "GET", path, [key_of(server), origin(page)])
        assert answer.status == 403, (page, path)
        assert answer.header("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize("index", range(len(strange_origins(0))))
def test_a_preflight_from_a_strange_origin_is_refused(server: RunningServer, index: int) -> None:
    answer = preflight(server, strange_origins(server.port)[index])
    assert answer.status == 403
    assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]


def test_of_two_origins_none_is_chosen(server: RunningServer) -> None:
    for pair in ([origin(APP), origin("https://evil.example")], [origin("https://evil.example"), origin(APP)]):
        assert send(server, "GET", "/health", pair).status == 403
        assert send(server, "GET", "/mcp", [key_of(server), *pair]).status == 403


@pytest.mark.parametrize("hosts", ["", "Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n"])
@pytest.mark.parametrize("path", [*ROUTES, *PROBES])
def test_a_missing_or_second_host_is_refused(server: RunningServer, hosts: str, path: str) -> None:
    head = hosts.replace("{port}", str(server.port)) + f"Authorization: Bearer {server.key}\r\nConnection: close\r\n"
    for version in ("1.0", "1.1"):
        status = server.raw(f"GET {path} HTTP/{version}\r\n{head}\r\n".encode()).split(b" ", 2)[1]
        assert status in {b"400", b"421"}


def test_names_of_allowed_hosts_are_served() -> None:
    names = "mcp.internal, host.docker.internal:9000, [fd00::7]"
    with running_server(allowed_hosts=names) as server:
        good = ["mcp.internal", f"mcp.internal:{server.port}", "MCP.internal:80", "mcp.internal:443"]
        for host in (*good, "host.docker.internal:9000", "[fd00::7]", f"127.0.0.1:{server.port}"):
            assert send(server, "GET", "/health", host=host).status == 200, host
        for host in ("mcp.internal:9000", "host.docker.internal", "x.mcp.internal", "mcp.internal.evil.example"):
            assert send(server, "GET", "/health", host=host).status == 421, host
        page = send(server, "GET", "/health", [origin("http://mcp.internal")], host="mcp.internal")
        assert page.status == 403, "a name to be called by is no origin to trust"


APPS = (
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "vscode-webview://0d7ilmTHE2q5oq3cpp1dlmgpaaq38fk6b2so8e4n2v5v1ibbdm6p",
    "app://obsidian.md",
)


@pytest.mark.parametrize("app", APPS)
def test_an_app_or_an_extension_is_trusted_exactly(app: str) -> None:
    with running_server(trusted_origins=",".join(APPS)) as server:
        answer = preflight(server, app)
        assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (200, app)
        for other in (app + "x", app.upper(), app + "/", app + ".evil.example", "https://" + app.partition("://")[2]):
            assert preflight(server, other).status == 403, other


def test_x_forwarded_host_does_not_replace_the_host(server: RunningServer) -> None:
    for name in ("X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-Host"):
        value = f"127.0.0.1:{server.port}"
        header: Header = (name, f"host={value}" if name == "Forwarded" else value)
        assert send(server, "GET", "/health", [header], host="evil.example").status == 421


def test_a_refused_host_or_origin_leaves_an_event(server: RunningServer) -> None:
    send(server, "GET", "/health", host="rebound.example")
    send(server, "GET", "/health", [origin("https://page.example")])
    newest, before = server.events("untrusted_origin_blocked")[:2]
    assert (before["details"]["header"], before["details"]["value"]) == ("host", "rebound.example")
    assert (newest["details"]["header"], newest["details"]["value"]) == ("origin", "https://page.example")
    assert newest["severity"] == "medium"


def test_the_servers_own_names_are_served(server: RunningServer) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        own = f"{name}:{server.port}"
        assert send(server, "GET", "/health", [origin(f"http://{own.lower()}")], host=own).status == 200


def test_a_trusted_page_may_send_the_headers_of_mcp(server: RunningServer) -> None:
    answer = preflight(server, APP)
    assert answer.status == 200
    assert answer.header("Access-Control-Allow-Origin") == APP
    allowed = (answer.header("Access-Control-Allow-Headers") or "").lower()
    assert all(name in allowed for name in MCP_HEADERS.split(", "))
    assert "POST" in (answer.header("Access-Control-Allow-Methods") or "")


def test_a_trusted_page_can_read_why_it_was_refused() -> None:
    with running_server(trusted_origins=APP, max_requests_per_minute=1) as small:
        unauthorized = send(small, "POST", "/mcp", [origin(APP), JSON, ACCEPT])
        limited = send(small, "POST", "/mcp", [origin(APP), JSON, ACCEPT])
    assert (unauthorized.status, limited.status) == (401, 429)
    for answer in (unauthorized, limited):
        assert answer.header("Access-Control-Allow-Origin") == APP
        exposed = (answer.header("Access-Control-Expose-Headers") or "").lower()
        assert all(name in exposed for name in ("www-authenticate", "retry-after", "ratelimit", "x-request-id"))


def test_no_page_may_send_the_browsers_own_credentials(server: RunningServer) -> None:
    """Cookies are not used; a wildcard or `Allow-Credentials` would be an invitation."""
    for answer in (preflight(server, APP), send(server, "GET", "/health", [origin(APP)])):
        assert answer.header("Access-Control-Allow-Credentials") is None
        assert answer.header("Access-Control-Allow-Origin") == APP
