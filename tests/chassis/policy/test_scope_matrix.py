"""Who may do what: every tool, resource and prompt, for every kind of caller, on every transport."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError

from mcp_chassis import prompt, resource, tool
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.middleware.authorization import ScopeLayer

from ..attacks.logs import log_lines
from ..support.callers import (
    MODES,
    connected,
    headers,
    message,
    on_stdio,
    server_for,
)
from ..support.running import RunningServer

pytestmark = pytest.mark.anyio

CALLERS: dict[str, tuple[str, ...]] = {
    "scopeless": (),
    "reader": ("notes:read",),
    "half-a-writer": ("notes:write",),
    "writer": ("notes:read", "notes:write"),
    "admin": ("admin",),
    "near-miss": ("notes", "notes:rea", "notes:read ", "NOTES:READ", "admin2", ""),
    "all": ("*",),
}
TOOLS = {
    "greet": (),
    "read_note": ("notes:read",),
    "write_note": ("notes:read", "notes:write"),
    "reset": ("admin",),
}
RESOURCES = {"about://us": (), "notes://all": ("notes:read",)}
TEMPLATES = {
    "help://{topic}": (),
    "notes://one/{name}": ("notes:read",),
    "vault://{name}": ("admin",),
}
PROMPTS = {"introduce": (), "summarise": ("notes:read",), "audit": ("admin", "notes:read")}


@tool(read_only=True)
async def greet() -> str:
    """Greet."""
    return "done greet"


@tool(read_only=True, scopes=TOOLS["read_note"])
async def read_note() -> str:
    """Read a note."""
    return "done read_note"


@tool(destructive=False, scopes=TOOLS["write_note"])
async def write_note() -> str:
    """Write a note."""
    return "done write_note"


@tool(destructive=False, scopes=TOOLS["reset"])
def reset() -> str:
    """Start anew."""
    return "done reset"


@resource("about://us")
def about() -> str:
    """About us."""
    return "done about"


@resource("notes://all", scopes=RESOURCES["notes://all"])
def all_notes() -> str:
    """All notes."""
    return "done all"


@resource("help://{topic}")
def help_on(topic: str) -> str:
    """Help."""
    return "done help"


@resource("notes://one/{name}", scopes=TEMPLATES["notes://one/{name}"])
def one_note(name: str) -> str:
    """A note."""
    return "done one"


@resource("vault://{name}", scopes=TEMPLATES["vault://{name}"])
def vault(name: str) -> str:
    """A secret."""
    return "done vault"


@prompt()
def introduce() -> str:
    """Introduce."""
    return "done introduce"


@prompt(scopes=PROMPTS["summarise"])
def summarise() -> str:
    """Summarise."""
    return "done summarise"


@prompt(scopes=PROMPTS["audit"])
def audit() -> str:
    """Audit."""
    return "done audit"


def make_server(events: EventLog | None = None) -> GuardedServer:
    """Return a server of everything above."""
    return GuardedServer(
        "matrix",
        tools=(greet, read_note, write_note, reset),
        resources=(about, all_notes, help_on, one_note, vault),
        prompts=(introduce, summarise, audit),
        events=events or EventLog(),
    )


EVENTS = EventLog()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """All callers, one server."""
    with server_for(CALLERS, make_server(EVENTS)) as running:
        yield running


def allowed(caller: str, needed: tuple[str, ...]) -> bool:
    """What the matrix should say, written down a second time."""
    return all(scope in CALLERS[caller] or "*" in CALLERS[caller] for scope in needed)


async def listings(client: Client) -> dict[str, set[str]]:
    """Return everything that a caller is shown."""
    return {
        "tools": {entry.name for entry in (await client.list_tools()).tools},
        "resources": {str(entry.uri) for entry in (await client.list_resources()).resources},
        "templates": {entry.uri_template for entry in (await client.list_resource_templates()).resource_templates},
        "prompts": {entry.name for entry in (await client.list_prompts()).prompts},
    }


def expected_listings(caller: str) -> dict[str, set[str]]:
    """Return everything that a caller should be shown."""
    kinds = {"tools": TOOLS, "resources": RESOURCES, "templates": TEMPLATES, "prompts": PROMPTS}
    return {kind: {name for name, needed in of.items() if allowed(caller, needed)} for kind, of in kinds.items()}


Attempt = tuple[str, tuple[str, ...], Callable[[Client], Awaitable[Any]]]


def attempts() -> list[Attempt]:
    """Return everything that can be asked for: what, which scopes it needs, how to ask."""
    tools = [(name, needed, partial(_call, name)) for name, needed in TOOLS.items()]
    prompts = [(name, needed, partial(_get, name)) for name, needed in PROMPTS.items()]
    uris = RESOURCES | {uri.replace("{name}", "a").replace("{topic}", "b"): held for uri, held in TEMPLATES.items()}
    resources = [(uri, needed, partial(_read, uri)) for uri, needed in uris.items()]
    return [*tools, *prompts, *resources]


async def _call(name: str, client: Client) -> object:
    return await client.call_tool(name, {})


async def _get(name: str, client: Client) -> object:
    return await client.get_prompt(name)


async def _read(uri: str, client: Client) -> object:
    return await client.read_resource(uri)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("mode", MODES)
async def test_a_caller_sees_what_it_may_use_and_nothing_else(server: RunningServer, mode: str, caller: str) -> None:
    async with connected(server, name=caller, mode=mode) as client:
        assert await listings(client) == expected_listings(caller)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("mode", MODES)
async def test_a_caller_may_use_what_it_sees_and_nothing_else(server: RunningServer, mode: str, caller: str) -> None:
    async with connected(server, name=caller, mode=mode) as client:
        for what, needed, ask in attempts():
            if allowed(caller, needed):
                assert "done" in repr(await ask(client)), what
                continue
            before = EVENTS.total
            with pytest.raises(MCPError) as refused:
                await ask(client)
            assert "done" not in repr(refused.value.error), what
            assert EVENTS.total == before + 1, what
            event = EVENTS.recent(1)[0]
            assert (event["event"], event["identifier"]) == ("http_error", f"key:{caller}")
            assert event["details"]["reason"] == "insufficient_scope"
            assert event["details"]["scopes"] == sorted(needed)


async def test_on_stdio_the_user_that_started_the_process_may_do_everything() -> None:
    async with on_stdio(__name__, "make_server", mode="legacy") as client:
        assert await listings(client) == expected_listings("all")
        for what, _, ask in attempts():
            assert "done" in repr(await ask(client)), what


REFUSED = [
    ("tools/call", {"name": "write_note", "arguments": {}}, "notes:read notes:write"),
    ("tools/call", {"name": "reset", "arguments": {}}, "admin"),
    ("prompts/get", {"name": "audit"}, "admin notes:read"),
    ("resources/read", {"uri": "notes://all"}, "notes:read"),
    ("resources/read", {"uri": "vault://a"}, "admin"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("method", "params", "needed"), REFUSED)
async def test_a_refusal_names_every_scope_that_is_needed(
    server: RunningServer, mode: str, method: str, params: dict[str, Any], needed: str
) -> None:
    """RFC 6750, section 3.1: so that a client may ask its authorization server for exactly these."""
    scopeless = replace(server, key="scopeless")
    about = str(params.get("name") or params.get("uri"))
    answer = scopeless.post(message(method, params, mode=mode), headers=headers(scopeless, method, about, mode=mode))
    assert answer.status_code == 403
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer ")
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{needed}"' in challenge
    body = answer.json()
    assert body["id"] == 1
    assert body["error"]["data"]["required_scopes"] == needed.split()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("claimed", ["greet", "GREET", "reset\t", "tools/list", ""])
async def test_a_header_that_names_an_open_tool_opens_no_other(server: RunningServer, mode: str, claimed: str) -> None:
    scopeless = replace(server, key="scopeless")
    sent = headers(scopeless, "tools/call", claimed.strip(), mode="auto")
    body = message("tools/call", {"name": "reset", "arguments": {}}, mode=mode)
    answer = scopeless.post(body, headers=sent)
    assert answer.status_code == 403
    assert answer.json()["error"]["data"]["required_scopes"] == ["admin"]


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("uri", ["notes://all", "notes://one/a", "vault://a"])
async def test_who_may_not_read_does_not_hear_of_changes(server: RunningServer, caller: str, uri: str) -> None:
    needed = RESOURCES.get(uri) or TEMPLATES["vault://{name}" if "vault" in uri else "notes://one/{name}"]
    params = {"notifications": {"resourceSubscriptions": ["about://us", uri]}}
    sent = headers(replace(server, key=caller), "subscriptions/listen", "", mode="auto")
    asked = message("subscriptions/listen", params, mode="auto")
    with httpx2.stream("POST", server.url + "/mcp", json=asked, headers=sent, trust_env=False) as answer:
        assert answer.status_code == (200 if allowed(caller, needed) else 403)


async def test_a_header_that_names_another_method_opens_nothing(server: RunningServer) -> None:
    scopeless = replace(server, key="scopeless")
    sent = headers(scopeless, "tools/list", "greet", mode="auto")
    answer = scopeless.post(message("tools/call", {"name": "reset", "arguments": {}}, mode="auto"), headers=sent)
    assert answer.status_code == 403


@pytest.mark.parametrize("mode", MODES)
async def test_a_header_that_names_a_closed_tool_closes_no_other(server: RunningServer, mode: str) -> None:
    """Only the body is believed: where the protocol lets the two disagree, the open tool is served."""
    scopeless = replace(server, key="scopeless")
    sent = headers(scopeless, "tools/call", "reset", mode="legacy") | {"Mcp-Name": "reset"}
    answer = scopeless.post(message("tools/call", {"name": "greet", "arguments": {}}), headers=sent)
    assert answer.status_code == 200
    assert "done greet" in answer.text


OTHER_SPELLINGS = [
    "VAULT://a",
    "vault://A/../a",
    "vault://%61",
    "vault://a?b",
    "vault://a#b",
    " vault://a",
    "vault:///a",
    "vault://a/",
    "Notes://all",
    "notes://all/",
    "notes://%61ll",
    "notes://ALL",
    "notes://one/%2e%2e/all",
    "notes://one/a\n",
    "notes://one//a",
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("uri", OTHER_SPELLINGS)
async def test_another_spelling_of_an_address_opens_nothing(server: RunningServer, mode: str, uri: str) -> None:
    """Whatever the SDK makes of it, the check is made of the same."""
    scopeless = replace(server, key="scopeless")
    sent = headers(scopeless, "resources/read", uri.strip(), mode=mode)
    answer = scopeless.post(message("resources/read", {"uri": uri}, mode=mode), headers=sent)
    assert "done" not in answer.text
    assert "error" in answer.json()


async def test_the_guard_refuses_by_itself_too(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that calls others, or a transport without HTTP, does not pass the layer."""
    monkeypatch.setattr(ScopeLayer, "__call__", _let_pass)
    for what, needed, ask in attempts():
        async for client in _clients(server):
            if needed:
                with pytest.raises(MCPError) as refused, log_lines("audit") as lines:
                    await ask(client)
                assert refused.value.error.data["required_scopes"] == sorted(needed), what
                assert [line["outcome"] for line in lines] == ["forbidden"]


async def _let_pass(layer: Any, scope: Any, receive: Any, send: Any) -> None:
    await layer.app(scope, receive, send)


async def _clients(server: RunningServer) -> AsyncIterator[Client]:
    for mode in MODES:
        async with connected(server, name="scopeless", mode=mode) as client:
            yield client


async def test_a_listing_made_for_one_caller_is_not_another_ones(server: RunningServer) -> None:
    """In turn, on one server: a listing that is kept between calls must be kept for each set of scopes."""
    for caller in [*CALLERS, *reversed(CALLERS)]:
        async with connected(server, name=caller) as client:
            assert await listings(client) == expected_listings(caller)


async def test_a_shared_cache_keeps_no_listing(server: RunningServer) -> None:
    """What differs by caller must not be served by a proxy to the next one."""
    for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list"):
        sent = headers(server, method, "", mode="auto")
        del sent["Mcp-Name"]
        answer = replace(server, key="all").post(message(method, {}, mode="auto"), headers=sent)
        assert answer.status_code == 200
        assert answer.json()["result"].get("cacheScope") != "public", method
        assert answer.headers["Cache-Control"] == "no-store"
