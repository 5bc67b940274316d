"""Answers of a token endpoint that must not become a credential for another service."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from mcp_chassis.auth.oauth.exchange import TokenExchange, on_behalf_of
from mcp_chassis.auth.principal import STDIO, Principal, act_for_caller, current_principal
from mcp_chassis.sinks import ConfigurationError, Fetched, SafeFetcher, Upstream, UpstreamError, http

from ..support.certificates import Authority
from ..support.documents import code, executed
from ..support.outside import Outside, Server, answers, reply

pytestmark = pytest.mark.anyio

GOOD = {
    "access_token": "token-of-the-service",
    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "token_type": "Bearer",
    "expires_in": 300,
}


class Endpoint(SafeFetcher):
    """Stands in for the fetcher: answers every question, and remembers it."""

    def __init__(self, answer: Any = GOOD, status: int = 200) -> None:
        super().__init__()
        self.body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.status = status
        self.asked: list[dict[str, list[str]]] = []

    async def request(self, method: Any, url: str, *, headers: Any = None, content: bytes | None = None) -> Fetched:
        self.asked.append(parse_qs((content or b"").decode()))
        assert headers["authorization"].startswith("Basic ")
        if self.status == 0:
            raise UpstreamError("the server does not answer")
        return Fetched(self.status, {}, self.body, url)


@pytest.fixture
def documented(outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Upstream, Server]]:
    """The `Upstream` of the documents, and a service at its place."""
    authority = Authority(tmp_path)
    server = Server(answers(reply(b"[7]")), context=authority.server_context("stock.internal"))
    outside.site("stock.internal", "10.1.2.3", server)
    monkeypatch.setattr(http, "system_authorities", authority.client_context)
    yield executed(code("authentication.md", "on behalf of the caller"))["stock"], server
    server.close()


def act_through(endpoint: Endpoint | None) -> None:
    """Let this test be a call of alice, whose token is exchanged there."""
    exchange = exchange_at(endpoint) if endpoint is not None else None
    current_principal.set(Principal("oauth:alice", "oauth"))
    act_for_caller.set(partial(exchange.token, "mine") if exchange is not None else None)


def exchange_at(endpoint: Endpoint) -> TokenExchange:
    return TokenExchange(url="https://issuer/token", client_id="mcp", client_secret="x", fetcher=endpoint)


async def test_the_form_is_that_of_rfc_8693() -> None:
    endpoint = Endpoint()
    assert await exchange_at(endpoint).token("mine", "https://a", ("b", "c")) == "token-of-the-service"
    (form,) = endpoint.asked
    assert form == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "subject_token": ["mine"],
        "subject_token_type": ["urn:ietf:params:oauth:token-type:access_token"],
        "requested_token_type": ["urn:ietf:params:oauth:token-type:access_token"],
        "audience": ["https://a"],
        "scope": ["b c"],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": "the-callers-own-token"},
        {"access_token": "a\r\nX-Admin: 1"},
        {"access_token": ""},
        {"access_token": ["a"]},
        {"access_token": None},
        {"token_type": "N_A"},
        {"token_type": "DPoP"},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"},
        {"issued_token_type": None},
    ],
    ids=str,
)
async def test_an_answer_that_is_no_token_of_the_service_is_not_used(changes: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError, match="cannot act for you") as raised:
        await exchange_at(Endpoint(GOOD | changes)).token("the-callers-own-token", "https://a", ())
    assert "a token could not be exchanged" in raised.value.cause, "the log has it"
    assert "the-callers-own-token" not in f"{raised.value} {raised.value.cause}"


@pytest.mark.parametrize(
    ("status", "body"), [(0, b""), (500, b"{}"), (302, b"{}"), (200, b"no JSON"), (200, b"[]"), (200, b"[" * 100_000)]
)
async def test_no_answer_is_not_the_callers_fault(status: int, body: bytes) -> None:
    with pytest.raises(UpstreamError, match="does not answer properly"):
        await exchange_at(Endpoint(body, status)).token("mine", "https://a", ())


@pytest.mark.parametrize("expires_in", [None, 0, 30])
async def test_a_token_without_a_known_end_is_not_kept(expires_in: int | None) -> None:
    answer = {name: value for name, value in (GOOD | {"expires_in": expires_in}).items() if value is not None}
    endpoint = Endpoint(answer)
    one = exchange_at(endpoint)
    for _ in range(2):
        await one.token("mine", "https://a", ())
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize("text", ['"3599"', "-1", "null", "Infinity", "NaN", "true", "1e999", "9" * 400])
async def test_an_end_that_is_no_number_is_no_known_end(text: str) -> None:
    endpoint = Endpoint(json.dumps(GOOD).replace("300", text).encode())
    one = exchange_at(endpoint)
    for _ in range(2):
        assert await one.token("mine", "https://a", ()) == "token-of-the-service"
    assert len(endpoint.asked) == 2


async def test_another_token_audience_or_scope_is_another_exchange() -> None:
    endpoint = Endpoint()
    one = exchange_at(endpoint)
    questions: list[tuple[str, str, tuple[str, ...]]] = [("mine", "a", ()), ("yours", "a", ()), ("mine", "b", ())]
    questions += [("mine", "a", ("c",)), ("mine", "a", ("c", "d"))]
    for _ in range(2):
        for question in questions:
            await one.token(*question)
    assert len(endpoint.asked) == len(questions)


async def test_who_has_no_token_learns_what_is_needed() -> None:
    authorization = on_behalf_of("https://a")
    act_for_caller.set(None)
    current_principal.set(STDIO)
    with pytest.raises(ToolError, match="log in with OAuth"):
        await authorization()
    current_principal.set(Principal("oauth:alice", "oauth"))
    with pytest.raises(ConfigurationError, match="OAUTH_TOKEN_URL"):
        await authorization()


async def test_the_documented_upstream_sends_the_exchanged_token(documented: tuple[Upstream, Server]) -> None:
    stock, server = documented
    endpoint = Endpoint()
    act_through(endpoint)
    async with stock:
        assert (await stock.get("/items", 7)).json() == [7]
    assert server.requests[0].startswith(b"GET /api/items/7 ")
    assert server.headers()["authorization"] == "Bearer token-of-the-service"
    (form,) = endpoint.asked
    assert (form["subject_token"], form["audience"], form["scope"]) == (
        ["mine"],
        ["https://stock.internal"],
        ["stock:read"],
    )


async def test_an_issuer_that_is_unavailable_fails_the_documented_upstream(documented: tuple[Upstream, Server]) -> None:
    stock, server = documented
    act_through(Endpoint(status=503))
    async with stock:
        with pytest.raises(UpstreamError, match="does not answer properly") as raised:
            await stock.get("/items")
    assert "status 503" in raised.value.cause
    assert server.requests == [], "nothing is sent without a credential"


async def test_a_missing_setting_is_the_fault_of_the_configuration(documented: tuple[Upstream, Server]) -> None:
    stock, server = documented
    act_through(None)
    async with stock:
        with pytest.raises(ConfigurationError, match="OAUTH_TOKEN_URL"):
            await stock.get("/items")
    assert server.requests == []
