"""Headers that make a browser treat the answers as data."""

import pytest

from mcp_chassis.middleware import security_headers

from ..support.asgi import Endpoint, ask

pytestmark = pytest.mark.anyio

EXPECTED = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


async def test_every_answer_has_them() -> None:
    answer = await ask(security_headers.SecurityHeadersLayer(Endpoint(status=404)))
    assert {name: answer.header(name) for name in EXPECTED} == EXPECTED
    assert answer.header("strict-transport-security") is None, "without https it would lock browsers out"


async def test_over_https_browsers_are_told_to_insist_on_it() -> None:
    answer = await ask(security_headers.SecurityHeadersLayer(Endpoint(), https=True))
    assert answer.header("strict-transport-security") == "max-age=31536000; includeSubDomains"


async def test_what_an_endpoint_has_set_stays_but_is_not_stored() -> None:
    endpoint = Endpoint(headers=[(b"Cache-Control", b"max-age=60"), (b"x-frame-options", b"SAMEORIGIN")])
    answer = await ask(security_headers.SecurityHeadersLayer(endpoint))
    assert answer.header("cache-control") is None, "neither set twice nor in another spelling"
    assert answer.header("Cache-Control") == "max-age=60, no-store"
    assert answer.header("x-frame-options") == "SAMEORIGIN"
    assert answer.header("x-content-type-options") == "nosniff"
