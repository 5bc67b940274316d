"""Requests that were meant for another server, or that a foreign page sends."""

import pytest

from mcp_chassis.events.log import EventLog
from mcp_chassis.middleware import gate

from ..support.asgi import Answer, Endpoint, ask, http_scope

pytestmark = pytest.mark.anyio

HOST = b"localhost:8080"
ORIGIN = b"https://app.example.com"


async def answer(hosts: list[bytes], origins: list[bytes], events: EventLog | None = None) -> Answer:
    layer = gate.HostAndOriginLayer(
        Endpoint(), events=events or EventLog(), hosts=[HOST.decode()], origins=[ORIGIN.decode()]
    )
    headers = [*((b"host", host) for host in hosts), *((b"origin", origin) for origin in origins)]
    return await ask(layer, http_scope(headers=headers))


@pytest.mark.parametrize("host", [HOST, HOST.upper()])
@pytest.mark.parametrize("origins", [[], [ORIGIN]])
async def test_what_is_listed_passes(host: bytes, origins: list[bytes]) -> None:
    assert (await answer([host], origins)).status == 200


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b""],
        [b"localhost"],
        [b"localhost:80"],
        [b"localhost:8080.evil.example"],
        [b"localhost:8080@evil.example"],
        [b"localhost:8080 "],
        [b"xlocalhost:8080"],
        [b"evil.example"],
        [b"evil.example:8080"],
        [b"*"],
        [HOST, HOST],
        [HOST, b"evil.example"],
        [b"\xff"],
    ],
    ids=repr,
)
async def test_every_other_host_is_misdirected(hosts: list[bytes]) -> None:
    events = EventLog()
    assert (await answer(hosts, [], events)).status == 421
    (event,) = events.recent()
    assert event["event"] == "untrusted_origin_blocked"
    assert event["details"]["header"] == "host"


@pytest.mark.parametrize(
    "origins",
    [
        [b""],
        [b"null"],
        [b"*"],
        [b"http://app.example.com"],
        [b"https://app.example.com:8443"],
        [b"https://app.example.com.evil.example"],
        [b"https://app.example.com/"],
        [b"https://APP.example.com"],
        [b"https://evil.example"],
        [ORIGIN, ORIGIN],
        [ORIGIN, b"https://evil.example"],
        [ORIGIN + b" https://evil.example"],
    ],
    ids=repr,
)
async def test_every_other_origin_is_forbidden(origins: list[bytes]) -> None:
    events = EventLog()
    assert (await answer([HOST], origins, events)).status == 403
    (event,) = events.recent()
    assert event["event"] == "untrusted_origin_blocked"
    assert event["details"] == {"header": "origin", "value": b", ".join(origins).decode()}


@pytest.mark.parametrize("hosts", [[], [b"10.1.2.3:8080"], [b"[fd00::7]:8080"], [HOST]])
async def test_a_probe_passes_for_any_host_but_not_for_any_page(hosts: list[bytes]) -> None:
    layer = gate.HostAndOriginLayer(
        Endpoint(), events=EventLog(), hosts=[HOST.decode()], origins=[ORIGIN.decode()], probes={"/livez"}
    )
    headers = [(b"host", host) for host in hosts]
    assert (await ask(layer, http_scope("/livez", headers=headers))).status == 200
    page = [*headers, (b"origin", b"https://evil.example")]
    assert (await ask(layer, http_scope("/livez", headers=page))).status == 403


async def test_other_scopes_pass() -> None:
    inner = Endpoint()
    layer = gate.HostAndOriginLayer(inner, events=EventLog(), hosts=[], origins=[])
    await ask(layer, {"type": "lifespan"})
    assert inner.calls == 1
