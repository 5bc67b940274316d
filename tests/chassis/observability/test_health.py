"""Whether the server lives, is ready, and how it is doing."""

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from mcp_chassis.http.routes import Health, memory_bytes

from ..support.asgi import Answer, ask, http_scope

pytestmark = pytest.mark.anyio


def health(*, known: bool = False, connections: int = 0) -> Health:
    made = Health(
        version="1.2.3", environment="production", is_known=lambda: known, open_connections=lambda: connections
    )
    made.ready = True
    return made


async def get(health: Health, path: str) -> Answer:
    routes = [Route("/health", health.health), Route("/livez", health.live), Route("/readyz", health.readiness)]
    return await ask(Starlette(routes=routes), http_scope(path))


async def test_everybody_sees_the_status_and_nothing_else() -> None:
    assert (await get(health(), "/health")).json() == {"status": "ok"}


async def test_a_known_caller_sees_what_an_operator_asks_first() -> None:
    report = (await get(health(known=True, connections=7), "/health")).json()
    assert report["uptime_seconds"] >= 0
    expected = {"status": "ok", "version": "1.2.3", "environment": "production", "open_connections": 7}
    assert {name: report[name] for name in expected} == expected
    assert "memory_bytes" in report


async def test_a_server_that_starts_or_stops_lives_and_is_not_ready() -> None:
    made = health()
    made.ready = False
    assert (await get(made, "/livez")).status == 200
    assert (await get(made, "/readyz")).status == 503
    assert (await get(made, "/health")).json() == {"status": "stopping"}
    made.ready = True
    assert (await get(made, "/readyz")).status == 200


def test_memory_is_in_bytes_where_the_system_tells() -> None:
    memory = memory_bytes()
    assert memory is None or 5_000_000 < memory < 50_000_000_000
