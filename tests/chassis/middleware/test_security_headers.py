"""Headers that make a browser treat the answers as data."""

import pytest

from mcp_chassis.events.log import EventLog
from mcp_chassis.middleware.request_context import AccessLog, RequestContextLayer

from ..support.asgi import Answer, Endpoint, ask

pytestmark = pytest.mark.anyio

EXPECTED = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


async def answer_of(endpoint: Endpoint, *, https: bool = False) -> Answer:
    return await ask(RequestContextLayer(endpoint, events=EventLog(), access_log=AccessLog(), https=https))


async def test_every_answer_has_them() -> None:
    answer = await answer_of(Endpoint(status=404))
    assert {name: answer.header(name) for name in EXPECTED} == EXPECTED
    assert answer.header("strict-transport-security") is None, "without https it would lock browsers out"


async def test_over_https_browsers_get_strict_transport_security() -> None:
    answer = await answer_of(Endpoint(), https=True)
    assert answer.header("strict-transport-security") == "max-age=31536000; includeSubDomains"


async def test_what_an_endpoint_has_set_stays_but_is_not_stored() -> None:
    endpoint = Endpoint(headers=[(b"Cache-Control", b"max-age=60"), (b"x-frame-options", b"SAMEORIGIN")])
    answer = await answer_of(endpoint)
    assert answer.header("cache-control") is None, "neither set twice nor in another spelling"
    assert answer.header("Cache-Control") == "max-age=60, no-store"
    assert answer.header("x-frame-options") == "SAMEORIGIN"
    assert answer.header("x-content-type-options") == "nosniff"
