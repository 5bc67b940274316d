"""The outermost layer: an id and an address for every request, one line, and an answer if all else fails."""

import ipaddress
from typing import Any

import pytest
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_chassis.auth.principal import Principal, current_principal
from mcp_chassis.events.log import EventLog
from mcp_chassis.middleware import request_context
from mcp_chassis.middleware.request_context import AccessLog

from ..support.asgi import CLIENT, Endpoint, ask, http_scope

pytestmark = pytest.mark.anyio

PROXIES = [ipaddress.ip_network("192.0.2.0/24")]


def layer(
    app: ASGIApp, events: EventLog | None = None, *, log_requests: bool = True, **options: Any
) -> request_context.RequestContextLayer:
    access_log = AccessLog(enabled=log_requests)
    return request_context.RequestContextLayer(app, events=events or EventLog(), access_log=access_log, **options)


def access_lines(logs: list[Any]) -> list[dict[str, Any]]:
    return [line for line in logs if line["event"] == "request"]


@pytest.mark.parametrize("given", ["abcdefgh", "0f8fad5b-d9cd-469f-a165-70867728950e", "a" * 64, "A.b_c-1234"])
async def test_a_good_request_id_is_kept(given: str) -> None:
    inner = Endpoint()
    answer = await ask(layer(inner), http_scope(headers=[(b"x-request-id", given.encode())]))
    assert answer.header("x-request-id") == given
    assert inner.requests[0] is not None
    assert inner.requests[0].request_id == given


async def test_the_code_of_a_tool_finds_the_id_in_the_context_of_structlog() -> None:
    """To send it to another system, for example."""
    seen: list[Any] = []

    async def app(*_: Any) -> None:
        seen.append(structlog.contextvars.get_contextvars())

    await ask(layer(app), http_scope(headers=[(b"x-request-id", b"abcdefgh")]))
    assert seen == [{"request_id": "abcdefgh"}]


@pytest.mark.parametrize(
    "given", [[], [b"short"], [b"a" * 65], [b"forged\nline"], [b"with space"], [b"\xff" * 8], [b"abcdefgh"] * 2]
)
async def test_any_other_is_replaced_by_an_own_one(given: list[bytes]) -> None:
    headers = [(b"x-request-id", value) for value in given]
    answers = [(await ask(layer(Endpoint()), http_scope(headers=headers))).header("x-request-id") for _ in range(2)]
    assert all(answer is not None and len(answer) == 32 for answer in answers)
    assert answers[0] != answers[1]


async def test_the_address_is_the_peers_or_what_a_trusted_proxy_says() -> None:
    headers = [(b"x-forwarded-for", b"203.0.113.9")]
    inner = Endpoint()
    await ask(layer(inner), http_scope(headers=headers))
    await ask(layer(inner, trusted_proxies=PROXIES), http_scope(headers=headers))
    await ask(layer(inner), http_scope(client=None))
    assert [request and request.client for request in inner.requests] == [CLIENT, "203.0.113.9", "unknown"]


async def test_nothing_is_inherited_from_the_request_before() -> None:
    inner = Endpoint()
    await ask(layer(inner), caller=Principal("oauth:alice", "oauth"))
    assert inner.principals == [None]


async def test_one_access_line_says_who_asked_what_and_how_it_went() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_principal.set(Principal("oauth:alice", "oauth"))
        await Endpoint(status=201)(scope, receive, send)

    scope = http_scope("/mcp", method="POST")
    scope["query_string"] = b"token=hunter2"
    with structlog.testing.capture_logs() as logs:
        await ask(layer(app), scope)
    (line,) = access_lines(logs)
    assert line["duration_ms"] >= 0
    expected = {"method": "POST", "path": "/mcp", "status": 201, "client": CLIENT, "principal": "oauth:alice"}
    assert {name: line[name] for name in expected} == expected
    assert "hunter2" not in repr(logs)


async def test_a_long_path_is_cut_in_the_line() -> None:
    with structlog.testing.capture_logs() as logs:
        await ask(layer(Endpoint()), http_scope("/" + "a" * 10_000))
    assert len(access_lines(logs)[0]["path"]) == 200


async def test_with_the_switch_off_there_is_no_line_but_still_an_event() -> None:
    events = EventLog()
    with structlog.testing.capture_logs() as logs:
        await ask(layer(Endpoint(status=404), events, log_requests=False))
    assert access_lines(logs) == []
    assert events.total == 1


@pytest.mark.parametrize(("status", "severity"), [(404, "medium"), (503, "high")])
async def test_an_error_status_is_an_event(status: int, severity: str) -> None:
    events = EventLog()
    await ask(layer(Endpoint(status=status), events), http_scope("/x"))
    (event,) = events.recent()
    assert (event["event"], event["severity"], event["identifier"]) == ("http_error", severity, CLIENT)
    assert event["details"] | {"status": status, "method": "GET", "path": "/x"} == event["details"]


async def test_a_success_is_none_and_a_more_precise_event_is_enough() -> None:
    events = EventLog()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        events.record("authentication_failed")
        await Endpoint(status=401)(scope, receive, send)

    await ask(layer(Endpoint(), events))
    assert events.total == 0
    await ask(layer(app, events))
    assert [event["event"] for event in events.recent()] == ["authentication_failed"]


async def test_a_crash_is_a_500_that_tells_nothing_but_the_id() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("the password is hunter2")

    events = EventLog()
    with structlog.testing.capture_logs() as logs:
        answer = await ask(layer(app, events))
    assert answer.status == 500
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json()["request_id"] == answer.header("x-request-id")
    assert b"hunter2" not in answer.body
    assert "request failed" in [line["event"] for line in logs]
    assert [event["severity"] for event in events.recent()] == ["high"]
    assert access_lines(logs)[0]["status"] == 500


async def test_a_crash_after_the_answer_has_begun_breaks_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")

    with pytest.raises(RuntimeError, match="too late"):
        await ask(layer(app))


async def test_other_scopes_pass() -> None:
    inner = Endpoint()
    await ask(layer(inner), {"type": "lifespan"})
    assert inner.calls == 1
