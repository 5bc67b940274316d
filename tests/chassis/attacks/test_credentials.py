"""Getting in without the key, or with something that looks like it."""

import base64
import json
from collections.abc import Iterator

import pytest
from starlette.routing import Route

from mcp_chassis.app import create_app
from mcp_chassis.auth.keys.records import default_record
from mcp_chassis.auth.keys.verifier import KeyVerifier
from mcp_chassis.auth.verifier import InvalidCredential
from secure_mcp_server.server import SERVER
from secure_mcp_server.tools import TOOLS

from ..support.running import RunningServer, running_server
from .wire import ACCEPT, JSON, Answer, Header, key_of, send

PUBLIC = {"/health", "/livez", "/readyz"}
LIST_TOOLS = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
ALG_NONE = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server without a limit for wrong credentials in the way."""
    with running_server(max_failed_auth_per_minute=10_000) as running:
        yield running


@pytest.fixture(scope="module")
def routes(server: RunningServer) -> list[str]:
    """Return every path that the application serves, those that are added later too, and some that it does not."""
    served = [route.path for route in create_app(server.settings, SERVER).routes if isinstance(route, Route)]
    others = ("/", "/nothing", "/docs", "/openapi.json", "/metrics", "/mcp/", "/.env", "/files/.well-known/secret")
    return [*served, *others]


def bad_credentials(key: str) -> dict[str, bytes]:
    """Return values of `Authorization` that are not the key, by what is wrong with them."""
    token = key.encode()
    return {
        "empty": b"",
        "scheme only": b"Bearer",
        "scheme and space": b"Bearer ",
        "wrong": b"Bearer invalid-key",
        "null": b"Bearer null",
        "the key's beginning": b"Bearer " + token[:-1],
        "the key and more": b"Bearer " + token + b"x",
        "the key in another case": b"Bearer " + token.swapcase(),
        "the key twice": b"Bearer " + token + b" " + token,
        "the key in a list": b"Bearer " + token + b", Bearer invalid-key",
        "the key in quotes": b'Bearer "' + token + b'"',
        "the key without a scheme": token,
        "the key under another scheme": b"Token " + token,
        "basic": b"Basic " + base64.b64encode(b"admin:" + token),
        "unsigned JWT": b"Bearer " + ALG_NONE.encode(),
        "non-ASCII text": "Bearer schlüssel-ключ-鍵".encode(),
        "raw bytes": b"Bearer \xff\xfe\x80\xc3",
        "10 KB": b"Bearer " + b"a" * 10_240,
        "10 KB of padding": b"Bearer " + token + b"=" * 10_240,
        "template": b"Bearer ${API_KEY}",
    }


def ask(server: RunningServer, path: str, credentials: list[Header]) -> Answer:
    """Ask for the list of tools at a path, or whatever is there."""
    if path == "/mcp":
        return send(server, "POST", path, (JSON, ACCEPT, *credentials), LIST_TOOLS)
    return send(server, "GET", path, credentials)


def assert_refused(answer: Answer, statuses: set[int], *, says: str | None) -> None:
    """Check the status, the challenge (RFC 6750, section 3) and that nothing behind the door is shown."""
    assert answer.status in statuses, answer.text
    assert not any(tool.__name__ in answer.text for tool in TOOLS)
    assert "inputSchema" not in answer.text
    if answer.status == 401:
        challenge = answer.header("WWW-Authenticate") or ""
        assert challenge.startswith("Bearer ")
        assert ("error=" in challenge) == (says is not None)
        assert says is None or f'error="{says}"' in challenge


@pytest.mark.parametrize("flaw", bad_credentials("k"))
def test_a_bad_credential_opens_no_route(server: RunningServer, routes: list[str], flaw: str) -> None:
    value = bad_credentials(server.key)[flaw]
    for path in routes:
        assert_refused(ask(server, path, [("Authorization", value)]), {401}, says="invalid_token")


def test_without_a_credential_every_route_but_the_public_ones_is_closed(
    server: RunningServer, routes: list[str]
) -> None:
    for path in routes:
        answer = ask(server, path, [])
        if path in PUBLIC:
            assert answer.status == 200, path
        else:
            assert_refused(answer, {401}, says=None)


def test_the_key_opens_the_door_so_the_refusals_mean_something(server: RunningServer) -> None:
    answer = ask(server, "/mcp", [key_of(server)])
    assert answer.status == 200
    assert "inputSchema" in answer.text


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "X"])
def test_an_unusual_method_does_not_get_past_the_door(server: RunningServer, method: str) -> None:
    status = 400 if method in {"CONNECT", "X"} else 401  # no method with a path, and none at all
    for path in ("/mcp", "/security/events"):
        assert send(server, method, path).status == status


def test_a_protocol_upgrade_does_not_get_past_the_door(server: RunningServer) -> None:
    for protocol in ("websocket", "h2c"):
        upgrade: list[Header] = [("Connection", "Upgrade"), ("Upgrade", protocol), ("Sec-WebSocket-Version", "13")]
        answer = send(server, "GET", "/mcp", [*upgrade, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
        assert answer.status == 401


@pytest.mark.parametrize("order", ["wrong first", "right first", "right twice"])
def test_of_two_authorization_headers_none_is_chosen(server: RunningServer, routes: list[str], order: str) -> None:
    right, wrong = key_of(server), ("Authorization", "Bearer invalid-key")
    pairs = {"wrong first": [wrong, right], "right first": [right, wrong], "right twice": [right, right]}
    for path in routes:
        assert_refused(ask(server, path, list(pairs[order])), {400, 401}, says=None)


def test_the_key_is_taken_from_nowhere_but_the_authorization_header(server: RunningServer) -> None:
    """A key in a URL ends up in proxies' logs and browsers' histories: accepting one invites it."""
    for name in ("api_key", "apikey", "key", "token", "access_token", "authorization"):
        assert send(server, "POST", f"/mcp?{name}={server.key}", (JSON, ACCEPT), LIST_TOOLS).status == 401
        assert send(server, "GET", f"/security/events?{name}={server.key}").status == 401
    for header in ("X-API-Key", "Api-Key", "Proxy-Authorization", "X-Authorization", "Authorization_", "Cookie"):
        for value in (server.key, f"Bearer {server.key}", f"api_key={server.key}"):
            assert send(server, "POST", "/mcp", (JSON, ACCEPT, (header, value)), LIST_TOOLS).status == 401
    form = f"access_token={server.key}".encode()
    assert send(server, "POST", "/mcp", [("Content-Type", "application/x-www-form-urlencoded")], form).status == 401


def test_headers_of_a_proxy_or_a_framework_do_not_name_the_caller(server: RunningServer) -> None:
    for header in ("X-Forwarded-User", "X-Remote-User", "Remote-User", "X-Principal", "X-Rewrite-URL"):
        for value in ("admin", "key:default", "/livez"):
            assert send(server, "GET", "/security/events", [(header, value)]).status == 401


@pytest.mark.anyio
@pytest.mark.parametrize("token", ["schlüssel", "鍵" * 32, "\u0000", "", "k" * 31])
async def test_a_key_in_any_alphabet_is_compared_without_a_crash(token: str) -> None:
    """`hmac.compare_digest` raises TypeError for non-ASCII text: a naive comparison answers 500, not 401."""
    verifier = KeyVerifier(dict, default=default_record("k" * 32))
    assert await verifier.verify(token) is None
    with pytest.raises(InvalidCredential):
        await verifier.verify(f"mcp_{token}")


def test_security_events_need_a_key_even_where_nothing_else_does() -> None:
    with running_server(enable_auth=False) as open_server:
        assert send(open_server, "POST", "/mcp", (JSON, ACCEPT), LIST_TOOLS).status == 200
        wrong: Header = ("Authorization", "Bearer invalid-key")
        for path in ("/security/events", "/security/events%0a", "/security//events", "/security/events/"):
            assert send(open_server, "GET", path).status in {401, 404}
            assert send(open_server, "GET", path, [wrong]).status in {401, 404}
        assert send(open_server, "GET", "/security/events", [key_of(open_server)]).status == 200


def test_health_tells_its_details_to_those_with_the_key_only(server: RunningServer) -> None:
    assert send(server, "GET", "/health").json() == {"status": "ok"}
    details = send(server, "GET", "/health", [key_of(server)]).json()
    assert {"version", "environment", "uptime_seconds", "memory_bytes", "open_connections"} < details.keys()
