"""Addresses that an operator has named are not served."""

import ipaddress

import pytest

from mcp_chassis.events.log import EventLog
from mcp_chassis.middleware import gate

from ..support.asgi import Endpoint, ask

pytestmark = pytest.mark.anyio

BLOCKED = [ipaddress.ip_network("203.0.113.0/24"), ipaddress.ip_network("2001:db8:bad::/48")]


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("203.0.113.9", 403),
        ("::ffff:203.0.113.9", 403),
        ("2001:db8:bad::1", 403),
        ("203.0.114.9", 200),
        ("2001:db8:bae::1", 200),
        ("unknown", 200),
        (None, 200),
    ],
)
async def test_a_client_is_judged_by_its_address(client: str | None, expected: int) -> None:
    inner, events = Endpoint(), EventLog()
    layer = gate.BlockedClientsLayer(inner, events=events, blocked=BLOCKED)
    answer = await ask(layer, client=client)
    assert answer.status == expected
    assert inner.calls == (1 if expected == 200 else 0)
    if expected == 403:
        assert answer.json()["detail"] == "This address is blocked."
        (event,) = events.recent()
        assert (event["event"], event["identifier"]) == ("http_error", client)
        assert event["details"]["reason"] == "blocked_client"
