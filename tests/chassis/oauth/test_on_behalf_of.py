"""Tools that call another service in the name of their caller, with a certified authorization server."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Annotated, Any

import httpx2
import jwt
import pytest
from pydantic import Field

from mcp_chassis import get_principal, tool
from mcp_chassis.auth.oauth import exchange, on_behalf_of
from mcp_chassis.auth.principal import Principal, act_for_caller, credential_is_valid
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..attacks.logs import log_lines
from ..support.running import RunningServer, running_server
from .running import AuthorizationServer

STOCK = "https://stock.internal"
SENT: list[str] = []
"""What the service of these tests was sent as `Authorization`."""
HELD: list[str] = []
"""Every text that a tool of these tests finds in what it can reach."""

read_stock = on_behalf_of(STOCK, ["stock:read"])
write_stock = on_behalf_of(STOCK, ["stock:write", "stock:read"])


@tool(scopes=["notes:read"], read_only=True)
async def ask_stock(write: bool) -> str:
    """Ask the service."""
    SENT.append(await (write_stock() if write else read_stock()))
    HELD.append(f"{get_principal()!r} {act_for_caller.get()!r} {credential_is_valid.get()!r}")
    return "asked"


@tool(scopes=["notes:read"], read_only=True)
async def ask_elsewhere(audience: Annotated[str, Field(max_length=100)]) -> str:
    """Ask a service for which no tokens are exchanged."""
    return await on_behalf_of(audience)()


@tool(scopes=["notes:read"], read_only=True)
async def ask_at_once() -> str:
    """Ask ten times at the same time."""
    return str(len(set(await asyncio.gather(*(read_stock() for _ in range(10))))))


@tool(scopes=["notes:read"], read_only=True)
async def act_for_bob() -> str:
    """Act for a caller that is not this one."""
    return await on_behalf_of(STOCK, principal=Principal("oauth:bob", "oauth"))()


@pytest.fixture(scope="module")
def server(authorization_server: AuthorizationServer) -> Iterator[RunningServer]:
    mcp = GuardedServer("a-server", tools=[ask_stock, ask_elsewhere, ask_at_once, act_for_bob], events=EventLog())
    token_url = f"{authorization_server.issuer}/token"
    with running_server(mcp, **authorization_server.settings, oauth_token_url=token_url) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_sent() -> None:
    SENT.clear()
    HELD.clear()


def asked(server: RunningServer, token: str, name: str, **arguments: Any) -> httpx2.Response:
    return server.call(name, arguments, headers={"Authorization": f"Bearer {token}"})


def claims(authorization: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(authorization.removeprefix("Bearer "), options={"verify_signature": False})
    return found


@pytest.mark.parametrize("client", ["ci", "opaque"])
def test_the_service_gets_a_token_of_its_own_for_the_caller(
    server: RunningServer, authorization_server: AuthorizationServer, client: str
) -> None:
    token = authorization_server.token(client, f"{server.url}/mcp")
    assert "asked" in asked(server, token, "ask_stock", write=False).text
    (sent,) = SENT
    assert token not in sent
    assert {name: claims(sent)[name] for name in ("aud", "sub", "scope", "client_id")} == {
        "aud": STOCK,
        "sub": client,
        "scope": "stock:read",
        "client_id": "resource-server",
    }


def test_a_token_is_exchanged_once_for_each_audience_and_scopes(
    server: RunningServer, authorization_server: AuthorizationServer
) -> None:
    resource = f"{server.url}/mcp"
    token = authorization_server.token("ci", resource, "notes:read notes:write")
    before = authorization_server.exchanges
    for write in (False, True, False, True):
        asked(server, token, "ask_stock", write=write)
    assert authorization_server.exchanges == before + 2
    assert SENT[:2] == SENT[2:]
    assert claims(SENT[1])["scope"] == "stock:read stock:write"
    assert '"1"' in asked(server, authorization_server.token("ci", resource), "ask_at_once").text
    assert authorization_server.exchanges == before + 3


def test_a_token_that_allows_less_does_not_get_what_was_kept_for_one_that_allows_more(
    server: RunningServer, authorization_server: AuthorizationServer
) -> None:
    """Both are of one subject, so a cache by subject would give the lesser token the rights of the greater."""
    resource = f"{server.url}/mcp"
    greater = authorization_server.token("ci", resource, "notes:read notes:write")
    assert "asked" in asked(server, greater, "ask_stock", write=True).text
    refused = asked(server, authorization_server.token("ci", resource, "notes:read"), "ask_stock", write=True).text
    assert "does not let this server act for you at https://stock.internal" in refused
    assert len(SENT) == 1


def test_what_is_kept_ends_with_the_token(
    server: RunningServer, authorization_server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_MARGIN", 299.5)
    token = authorization_server.token("ci", f"{server.url}/mcp")
    before = authorization_server.exchanges
    asked(server, token, "ask_stock", write=False)
    asyncio.run(asyncio.sleep(1.0))
    asked(server, token, "ask_stock", write=False)
    assert authorization_server.exchanges == before + 2


def test_a_refusal_reaches_the_caller_without_details_and_the_log_with_its_code(
    server: RunningServer, authorization_server: AuthorizationServer
) -> None:
    token = authorization_server.token("ci", f"{server.url}/mcp")
    with log_lines("auth") as lines:
        refused = asked(server, token, "ask_elsewhere", audience="https://elsewhere.internal").text
    assert "does not let this server act for you at https://elsewhere.internal" in refused
    (line,) = lines
    assert (line["error"], line["audience"]) == ("invalid_target", "https://elsewhere.internal")
    assert token not in str(lines)


def test_a_key_has_no_token_to_exchange(server: RunningServer, authorization_server: AuthorizationServer) -> None:
    """Also right after a caller with a token, on the same connection."""
    token = authorization_server.token("ci", f"{server.url}/mcp")
    with httpx2.Client(trust_env=False) as connection:
        for headers, expected in (
            ({"Authorization": f"Bearer {token}"}, "asked"),
            (dict(server.credentials), "log in with OAuth"),
        ):
            params = {"name": "ask_stock", "arguments": {"write": False}}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            accept = {"Accept": "application/json, text/event-stream"}
            assert expected in connection.post(f"{server.url}/mcp", json=message, headers=headers | accept).text
    assert len(SENT) == 1


def test_no_tool_acts_for_another_caller(server: RunningServer, authorization_server: AuthorizationServer) -> None:
    token = authorization_server.token("ci", f"{server.url}/mcp")
    assert "another caller" in asked(server, token, "act_for_bob").text


def test_the_token_of_the_caller_is_in_nothing_that_a_tool_finds(
    server: RunningServer, authorization_server: AuthorizationServer
) -> None:
    token = authorization_server.token("ci", f"{server.url}/mcp")
    asked(server, token, "ask_stock", write=False)
    assert HELD
    assert token not in "".join(HELD)
    kept = [item for item in gc.get_objects() if isinstance(item, exchange._Exchanged)]
    assert kept
    assert not any(item.token in repr(item) for item in kept)
