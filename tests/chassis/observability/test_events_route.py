"""`GET /security/events`."""

from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from mcp_chassis.events.log import EventLog
from mcp_chassis.events.route import events_route
from mcp_chassis.middleware.responses import exception_handlers

from ..support.asgi import Answer, ask, http_scope

pytestmark = pytest.mark.anyio


async def get(**query: str) -> Answer:
    log = EventLog()
    for number in range(150):
        log.record("http_error", f"alice-{number}", number=number)
    log.record("rate_limit_exceeded", "bob")
    app = Starlette(routes=[Route("/events", events_route(log))], exception_handlers=exception_handlers("/mcp"))
    scope = http_scope("/events")
    scope["query_string"] = urlencode(query).encode()
    return await ask(app, scope)


async def test_the_newest_hundred_come_first() -> None:
    document = (await get()).json()
    assert document["totalEvents"] == 151
    assert len(document["events"]) == 100
    assert document["events"][0]["event"] == "rate_limit_exceeded"
    assert document["events"][1]["details"] == {"number": 149}
    assert set(document["events"][0]) == {"timestamp", "event", "identifier", "details", "severity"}


async def test_filters() -> None:
    assert len((await get(limit="7")).json()["events"]) == 7
    assert len((await get(limit="1000")).json()["events"]) == 151
    (only,) = (await get(event="rate_limit_exceeded")).json()["events"]
    assert only["identifier"] == "bob"


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "99999", "x", "", "1.5", "1e2", "٣"])
async def test_a_senseless_limit_is_a_400(limit: str) -> None:
    answer = await get(limit=limit)
    assert answer.status == 400
    assert answer.json()["detail"] == "`limit` must be a number from 1 to 1000."


async def test_an_unknown_kind_is_a_400_that_names_the_known_ones() -> None:
    answer = await get(event="everything")
    assert answer.status == 400
    assert "authentication_failed" in answer.json()["detail"]
    assert "everything" not in answer.json()["detail"]
