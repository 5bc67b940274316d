"""Everything is closed, except what is listed as public."""

import pytest

from mcp_chassis.auth.principal import ANONYMOUS, Principal
from mcp_chassis.events.log import EventLog
from mcp_chassis.middleware import authorization

from ..support.asgi import Endpoint, ask, http_scope

pytestmark = pytest.mark.anyio

ALICE = Principal("oauth:alice", "oauth", frozenset({"notes:read"}))
WATCHER = Principal("key:watcher", "key", frozenset({"events:read"}))


async def status(path: str, caller: Principal | None, events: EventLog | None = None) -> int:
    layer = authorization.AuthorizationLayer(
        Endpoint(),
        events=events or EventLog(),
        public=frozenset({"/livez"}),
        protected={"/security/events": "events:read"},
        challenge='Bearer realm="mcp"',
        first_challenge='Bearer realm="mcp", scope="notes:read"',
        open=("/.well-known/", "/mcp/.well-known/"),
    )
    answer = await ask(layer, http_scope(path), caller=caller)
    if answer.status == 401:
        assert answer.header("www-authenticate") == 'Bearer realm="mcp", scope="notes:read"', (
            "nothing was presented that could be wrong"
        )
    if answer.status == 403:
        assert answer.json()["error"] == "insufficient_scope"
        assert 'error="insufficient_scope", scope="events:read"' in (answer.header("www-authenticate") or "")
    return answer.status


@pytest.mark.parametrize(
    ("path", "caller", "expected"),
    [
        ("/livez", None, 200),
        ("/livez", ALICE, 200),
        ("/mcp", None, 401),
        ("/mcp", ALICE, 200),
        ("/mcp", ANONYMOUS, 200),
        ("/no-such-path", None, 401),
        ("/livez/", None, 401),
        ("/LIVEZ", None, 401),
        ("/livez\n", None, 401),
        ("/.well-known/oauth-protected-resource", None, 200),
        ("/mcp/.well-known/openid-configuration", None, 200),
        ("/.well-known", None, 401),
        ("/files/.well-known/secret", None, 401),
        ("/security/events/.well-known/", None, 401),
        ("//livez", None, 401),
        ("/livez/../mcp", None, 401),
        ("/security/events", None, 401),
        ("/security/events", ANONYMOUS, 401),
        ("/security/events", ALICE, 403),
        ("/security/events", WATCHER, 200),
    ],
)
async def test_a_path_is_open_to_those_it_is_open_to(path: str, caller: Principal | None, expected: int) -> None:
    assert await status(path, caller) == expected


async def test_a_refusal_is_an_event() -> None:
    events = EventLog()
    await status("/mcp", None, events)
    (event,) = events.recent()
    assert event["event"] == "authentication_failed"
    assert event["details"] == {"path": "/mcp", "reason": "missing"}


async def test_a_missing_scope_is_an_event_that_names_the_caller() -> None:
    events = EventLog()
    await status("/security/events", ALICE, events)
    (event,) = events.recent()
    assert (event["event"], event["identifier"]) == ("http_error", "oauth:alice")
    assert event["details"] == {"status": 403, "reason": "insufficient_scope", "scopes": ["events:read"]}


async def test_other_scopes_pass() -> None:
    inner = Endpoint()
    layer = authorization.AuthorizationLayer(
        inner, events=EventLog(), public=frozenset(), protected={}, challenge="Bearer", first_challenge="Bearer"
    )
    await ask(layer, {"type": "lifespan"})
    assert inner.calls == 1
