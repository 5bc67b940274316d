"""The official client walks the whole way to a token, with a certified authorization server."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.auth.extensions.identity_assertion import IdentityAssertionOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl, Field

from mcp_chassis import get_principal, tool
from mcp_chassis.auth.oauth import jwks, verdict_cache
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.issuer import public_jwk
from ..support.keys import add_key
from ..support.running import RunningServer, running_server, text
from .running import AuthorizationServer

pytestmark = pytest.mark.anyio

CALLBACK = "http://127.0.0.1:1/callback"
LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@tool(scopes=["notes:read"], read_only=True)
def who_am_i() -> str:
    """Say who calls."""
    principal = get_principal()
    return f"{principal.kind} {principal.id} {' '.join(sorted(principal.scopes))}"


@tool(scopes=["notes:read", "notes:write"], destructive=False)
def write(text: Annotated[str, Field(max_length=100)]) -> str:
    """Do what needs a second scope."""
    return f"{text} by {get_principal().id}"


class Memory:
    """Where the official client keeps what it got."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Browser:
    """Stands in for alice and her browser: follows every redirect, and logs in by asking for the page."""

    def __init__(self) -> None:
        self.visited: list[str] = []

    async def open(self, url: str) -> None:
        async with httpx2.AsyncClient(trust_env=False) as client:
            while not url.startswith(CALLBACK):
                self.visited.append(url)
                assert len(self.visited) < 20, self.visited
                answer = await client.get(url)
                assert answer.is_redirect, answer.text
                url = str(answer.url.join(answer.headers["location"]))
        self.callback = parse_qs(urlsplit(url).query)

    async def result(self) -> AuthorizationCodeResult:
        query = {name: values[0] for name, values in self.callback.items()}
        return AuthorizationCodeResult(code=query["code"], state=query["state"], iss=query["iss"])

    def asked(self, name: str) -> list[str]:
        """Return one parameter of every authorization request."""
        requests = [urlsplit(url) for url in self.visited]
        return [value for url in requests if url.path == "/auth" for value in parse_qs(url.query).get(name, [])]


@asynccontextmanager
async def connected(server: RunningServer, auth: httpx2.Auth) -> AsyncIterator[tuple[Client, list[httpx2.Request]]]:
    """Connect the official client, and remember every request it sends."""
    sent: list[httpx2.Request] = []

    async def remember(request: httpx2.Request) -> None:
        sent.append(request)

    async with (
        httpx2.AsyncClient(auth=auth, trust_env=False, event_hooks={"request": [remember]}) as http_client,
        Client(streamable_http_client(f"{server.url}/mcp", http_client=http_client)) as client,
    ):
        yield client, sent


def alice(server: RunningServer, browser: Browser, memory: Memory) -> OAuthClientProvider:
    """Return what the official client does for a person."""
    metadata = OAuthClientMetadata(
        client_name="a client", redirect_uris=[AnyUrl(CALLBACK)], grant_types=["authorization_code"]
    )
    return OAuthClientProvider(f"{server.url}/mcp", metadata, memory, browser.open, browser.result)


@pytest.fixture
def server(authorization_server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    """A server that knows the issuer and nothing else of it, and asks again for keys as soon as it needs them."""
    monkeypatch.setattr(jwks, "_COOL_DOWN", 0.0)
    mcp = GuardedServer("a-server", tools=[who_am_i, write], events=EventLog())
    with running_server(mcp, **authorization_server.settings) as running:
        yield running


async def test_from_a_401_to_a_call(server: RunningServer, authorization_server: AuthorizationServer) -> None:
    """401, metadata, registration, authorization with PKCE and resource indicator, token, call."""
    browser, memory = Browser(), Memory()
    async with connected(server, alice(server, browser, memory)) as (client, sent):
        assert text(await client.call_tool("who_am_i", {})) == "oauth oauth:alice notes:read"
    asked = [f"{request.method} {request.url.path}" for request in sent]
    assert asked.index("POST /mcp") < asked.index("GET /.well-known/oauth-protected-resource/mcp")
    assert "POST /reg" in asked
    assert "POST /token" in asked
    resource = f"{server.url}/mcp"
    assert browser.asked("resource") == [resource]
    assert browser.asked("code_challenge_method") == ["S256"]
    assert browser.asked("scope") == ["notes:read"], "what read-only tools need, from the challenge"
    assert server.events("authentication_failed")[-1]["details"]["reason"] == "missing"


async def test_a_scope_that_is_missing_is_asked_for_and_then_there(
    server: RunningServer, authorization_server: AuthorizationServer
) -> None:
    """The 403 names all scopes that the call needs, so that one more authorization is enough."""
    browser, memory = Browser(), Memory()
    memory.tokens = OAuthToken(access_token=authorization_server.token("ci", f"{server.url}/mcp"), scope="notes:read")
    async with connected(server, alice(server, browser, memory)) as (client, _):
        assert text(await client.call_tool("who_am_i", {})) == "oauth oauth:ci notes:read"
        assert browser.visited == []
        assert text(await client.call_tool("write", {"text": "hello"})) == "hello by oauth:alice"
    assert browser.asked("scope") == ["notes:read notes:write"]


async def test_from_the_login_to_a_tool_that_needs_more(server: RunningServer) -> None:
    """The tool is listed, so that its call can ask for the scope; a key finds only what it may call."""
    browser = Browser()
    async with connected(server, alice(server, browser, Memory())) as (client, _):
        assert [tool.name for tool in (await client.list_tools()).tools] == ["who_am_i", "write"]
        assert text(await client.call_tool("write", {"text": "hello"})) == "hello by oauth:alice"
        assert text(await client.call_tool("who_am_i", {})) == "oauth oauth:alice notes:read notes:write"
    assert browser.asked("scope") == ["notes:read", "notes:read notes:write"]


async def test_base_scopes_and_lists_are_settings(authorization_server: AuthorizationServer, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json")
    settings = authorization_server.settings | {"keys_file": tmp_path / "keys.json"}
    mcp = GuardedServer("a-server", tools=[who_am_i, write], events=EventLog())
    with running_server(
        mcp, **settings, oauth_base_scopes="notes:write offline_access", oauth_list_all=False
    ) as server:
        challenge = server.post(LIST_TOOLS, headers={}).headers["www-authenticate"]
        assert challenge.endswith(', scope="notes:write offline_access"')
        document = server.get("/.well-known/oauth-protected-resource/mcp").json()
        assert document["scopes_supported"] == ["notes:write", "offline_access"]
        token = authorization_server.token("ci", f"{server.url}/mcp")
        assert listed(server, token) == listed(server, key) == ["who_am_i"]
    mcp = GuardedServer("a-server", tools=[who_am_i, write], events=EventLog())
    with running_server(mcp, **settings) as server:
        token = authorization_server.token("ci", f"{server.url}/mcp")
        assert listed(server, token) == ["who_am_i", "write"]
        assert listed(server, key) == ["who_am_i"]


def listed(server: RunningServer, token: str) -> list[str]:
    """Return the tools that a caller is shown."""
    answer = server.post(LIST_TOOLS, headers={"Authorization": f"Bearer {token}"})
    return [tool["name"] for tool in answer.json()["result"]["tools"]]


async def test_a_machine_with_client_credentials(
    server: RunningServer, authorization_server: AuthorizationServer
) -> None:
    auth = ClientCredentialsOAuthProvider(
        f"{server.url}/mcp", Memory(), "ci", "secret-of-ci", issuer=authorization_server.issuer
    )
    async with connected(server, auth) as (client, sent):
        assert text(await client.call_tool("who_am_i", {})) == "oauth oauth:ci notes:read"
        assert text(await client.call_tool("write", {"text": "hello"})) == "hello by oauth:ci"
    assert "/auth" not in {request.url.path for request in sent}


async def test_an_enterprise_decides_which_users_may_call(
    server: RunningServer, authorization_server: AuthorizationServer
) -> None:
    """Enterprise-managed authorization of MCP: its identity provider's assertion takes the place of a login."""
    key = ec.generate_private_key(ec.SECP256R1())
    authorization_server.trust(public_jwk(key, "of-the-enterprise"))
    assertions: list[str] = []

    async def assertion(audience: str, resource: str) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": "https://idp.example",
            "sub": "carol",
            "aud": audience,
            "resource": resource,
            "scope": "notes:read",
        }
        claims |= {"client_id": "managed", "jti": str(len(assertions)), "iat": now, "exp": now + 60}
        assertions.append(jwt.encode(claims, key, algorithm="ES256", headers={"typ": "oauth-id-jag+jwt"}))
        return assertions[-1]

    auth = IdentityAssertionOAuthProvider(
        f"{server.url}/mcp",
        Memory(),
        "managed",
        "secret-of-managed",
        issuer=authorization_server.issuer,
        assertion_provider=assertion,
        token_endpoint_auth_method="client_secret_basic",
    )
    async with connected(server, auth) as (client, sent):
        assert text(await client.call_tool("who_am_i", {})) == "oauth oauth:carol notes:read"
    assert "/auth" not in {request.url.path for request in sent}
    (presented,) = assertions
    assert server.post(LIST_TOOLS, headers={"Authorization": f"Bearer {presented}"}).status_code == 401, (
        "no access token"
    )


async def test_the_issuers_key_changes_while_a_client_is_connected(
    server: RunningServer, authorization_server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, memory = Browser(), Memory()
    async with connected(server, alice(server, browser, memory)) as (client, _):
        await client.call_tool("who_am_i", {})
        assert memory.tokens is not None
        before = memory.tokens.access_token
        authorization_server.rotate()
        await client.call_tool("who_am_i", {})
        assert memory.tokens.access_token == before, "the key is withdrawn, but the server does not know it"
        monkeypatch.setattr(jwks, "_FRESH", 0.0)
        assert "oauth:alice" in text(await client.call_tool("who_am_i", {}))
        assert memory.tokens.access_token != before, "the verdict must fall with the key"
    old = server.post(LIST_TOOLS, headers={"Authorization": f"Bearer {before}"})
    assert old.status_code == 401
    assert server.events("authentication_failed")[0]["details"]["reason"] == "unknown_key"


async def test_an_opaque_token_is_asked_about_until_it_is_revoked(
    server: RunningServer, authorization_server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = authorization_server.token("opaque", f"{server.url}/mcp")
    assert "." not in token
    opaque = {"Authorization": f"Bearer {token}"}
    shown = server.call("who_am_i", {}, headers=opaque)
    assert "oauth oauth:opaque notes:read" in shown.text
    elsewhere = authorization_server.token("opaque", "https://another.example/mcp")
    assert server.post(LIST_TOOLS, headers={"Authorization": f"Bearer {elsewhere}"}).status_code == 401
    assert server.events("authentication_failed")[0]["details"]["reason"] == "audience"
    authorization_server.ask("/token/revocation", "opaque", token=token)
    assert server.call("who_am_i", {}, headers=opaque).status_code == 200, "for half a minute"
    monkeypatch.setattr(verdict_cache, "time", SimpleNamespace(time=lambda: time.time() + 31))
    assert server.call("who_am_i", {}, headers=opaque).status_code == 401


async def test_a_token_for_another_server_of_the_same_issuer_is_refused(
    server: RunningServer, authorization_server: AuthorizationServer
) -> None:
    token = authorization_server.token("ci", "http://127.0.0.1:9/mcp")
    assert server.post(LIST_TOOLS, headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert server.events("authentication_failed")[0]["details"]["reason"] == "audience"
