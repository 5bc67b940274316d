"""The issuer's keys: found, cached, and fetched again with restraint."""

import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from mcp_chassis.auth.oauth import jwks
from mcp_chassis.auth.oauth.jwks import IssuerKeys, IssuerUnavailable
from mcp_chassis.auth.oauth.reach import Reach
from mcp_chassis.sinks import http

from ..support.certificates import Authority
from ..support.issuer import KEYS, METADATA, Issuer, public_jwk, running_issuer
from ..support.outside import PUBLIC, Canary, Outside, Server, answers, redirect, reply
from ..support.running import free_port

pytestmark = pytest.mark.anyio


class Clock:
    """Stands in for the `time` module where waiting for half an hour would be boring."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(jwks, "time", clock)
    return clock


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


async def test_keys_are_fetched_once_and_remembered(issuer: Issuer) -> None:
    keys = IssuerKeys(issuer.url)
    for _ in range(3):
        found = await keys.key("key-1")
        assert found is not None
        assert found["kid"] == "key-1"
    assert issuer.requests == [METADATA, KEYS]


async def test_of_many_callers_one_asks(issuer: Issuer) -> None:
    keys = IssuerKeys(issuer.url)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(keys.key, "key-1")
    assert issuer.fetches == 1


async def test_a_flood_of_unknown_kids_is_one_fetch_in_each_cool_down(issuer: Issuer, clock: Clock) -> None:
    keys = IssuerKeys(issuer.url)
    await keys.key("key-1")
    clock.now += 29.9
    assert await keys.key("made-up") is None
    assert issuer.fetches == 1
    clock.now += 0.1
    for round_ in range(3):
        for number in range(100):
            assert await keys.key(f"made-up-{round_}-{number}") is None
        assert issuer.fetches == 2 + round_
        clock.now += 31


async def test_a_rotated_key_is_found_after_the_cool_down_and_the_old_one_is_gone(issuer: Issuer, clock: Clock) -> None:
    keys = IssuerKeys(issuer.url)
    assert await keys.key("key-1") is not None
    issuer.rotate("key-2")
    clock.now += 31
    assert await keys.key("key-2") is not None
    assert await keys.key("key-1") is None


async def test_keys_are_asked_for_again_after_ten_minutes(issuer: Issuer, clock: Clock) -> None:
    """A key that the issuer has withdrawn must not stay valid."""
    keys = IssuerKeys(issuer.url)
    await keys.key("key-1")
    issuer.rotate("key-2")
    clock.now += 600
    assert await keys.key("key-1") is not None
    clock.now += 0.1
    assert await keys.key("key-1") is None


async def test_while_the_issuer_is_unavailable_old_keys_serve_for_a_day(issuer: Issuer, clock: Clock) -> None:
    keys = IssuerKeys(issuer.url)
    await keys.key("key-1")
    issuer.status = 503
    clock.now += 86_400
    assert await keys.key("key-1") is not None
    clock.now += 0.1
    with pytest.raises(IssuerUnavailable):
        await keys.key("key-1")
    issuer.status = 200
    clock.now += 31
    assert await keys.key("key-1") is not None


async def test_an_issuer_that_hangs_holds_up_one_caller_and_not_all(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = IssuerKeys(issuer.url, url=issuer.url + KEYS)
    await keys.key("key-1")
    asked, answer = anyio.Event(), anyio.Event()

    async def hang(*_: object) -> dict[str, Any]:
        asked.set()
        await answer.wait()
        return {"keys": []}

    monkeypatch.setattr(jwks, "_get", hang)
    clock.now += 601
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keys.key, "key-1")
        await asked.wait()
        with anyio.fail_after(1):
            assert await keys.key("key-1") is not None
        answer.set()
    assert await keys.key("key-1") is None


async def test_keys_that_are_too_old_are_not_used_while_they_are_fetched_again(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = IssuerKeys(issuer.url, url=issuer.url + KEYS)
    await keys.key("key-1")
    asked, answer, found = anyio.Event(), anyio.Event(), list[object]()

    async def hang(*_: object) -> dict[str, Any]:
        asked.set()
        await answer.wait()
        return {"keys": []}

    async def look_up() -> None:
        found.append(await keys.key("key-1"))

    monkeypatch.setattr(jwks, "_get", hang)
    clock.now += 86_401
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(look_up)
        await asked.wait()
        await anyio.wait_all_tasks_blocked()
        assert found == []
        answer.set()
    assert found == [None, None]


async def test_a_token_without_kid_gets_the_only_key_but_no_guess(issuer: Issuer) -> None:
    assert await IssuerKeys(issuer.url).key(None) is not None
    another = public_jwk(ec.generate_private_key(ec.SECP256R1()), "key-2")
    issuer.publish(issuer.documents[KEYS]["keys"][0], another)
    assert await IssuerKeys(issuer.url).key(None) is None


async def test_keys_for_encryption_and_nonsense_are_not_keys(issuer: Issuer) -> None:
    encryption = public_jwk(issuer.private_key, "key-2") | {"use": "enc"}
    issuer.documents[KEYS] = {"keys": [encryption, "nonsense", None, issuer.documents[KEYS]["keys"][0]]}
    keys = IssuerKeys(issuer.url)
    assert await keys.key("key-2") is None
    assert await keys.key("key-1") is not None


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(public_exponent=65537, key_size=2048), ec.generate_private_key(ec.SECP256R1())]
)
async def test_a_private_key_that_was_published_verifies_nothing(
    issuer: Issuer, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    """Everybody can sign with it. It also made PyJWT end with an AttributeError."""
    written = RSAAlgorithm.to_jwk(key, True) if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm.to_jwk(key, True)
    issuer.publish({**written, "kid": "leaked"})
    assert await IssuerKeys(issuer.url).key("leaked") is None


async def test_a_refused_connection() -> None:
    keys = IssuerKeys(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(IssuerUnavailable):
        await keys.key("key-1")


@pytest.mark.parametrize("path", ["/", "/tenant", "/tenant/"])
async def test_an_issuer_with_a_path_is_looked_up_as_rfc_8414_says(path: str) -> None:
    with running_issuer(path) as issuer:
        assert await IssuerKeys(issuer.url).key("key-1") is not None
        assert issuer.requests[0] == METADATA + path.rstrip("/")


async def test_openid_configuration_is_the_second_choice() -> None:
    with running_issuer("/tenant") as issuer:
        document = issuer.documents.pop(f"{METADATA}/tenant")
        issuer.documents["/tenant/.well-known/openid-configuration"] = document
        assert await IssuerKeys(issuer.url).key("key-1") is not None


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://another.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "/keys"},
        {"jwks_uri": ["http://127.0.0.1/keys"]},
    ],
    ids=repr,
)
async def test_metadata_of_another_issuer_or_without_a_key_url_is_not_followed(
    issuer: Issuer, change: dict[str, Any]
) -> None:
    """The mix-up defence of RFC 8414, section 3.3."""
    issuer.documents[METADATA] |= change
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(issuer.url).key("key-1")
    assert issuer.fetches == 0


async def test_an_https_issuer_cannot_send_us_to_http(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def get(_: object, url: str) -> dict[str, Any]:
        asked.append(url)
        return {"issuer": "https://login.example.com", "jwks_uri": issuer.origin + KEYS}

    monkeypatch.setattr(jwks, "_get", get)
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys("https://login.example.com").key("key-1")
    assert [url for url in asked if not url.startswith("https://login.example.com/")] == []


@pytest.mark.parametrize(
    "document",
    [
        *(b"not JSON", b"[]", b'{"keys": 7}', b"{}", b"\xff\xfe", b'{"keys": [' + b"1," * 200_000 + b"1]}"),
        b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["text", "list", "keys-number", "no-keys", "not-utf-8", "too-large", "too-deep"],
)
@pytest.mark.parametrize("path", [METADATA, KEYS])
async def test_a_broken_document_is_as_good_as_none(issuer: Issuer, document: bytes, path: str) -> None:
    issuer.documents[path] = document
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(issuer.url).key("key-1")


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_only_200_is_an_answer(issuer: Issuer, status: int) -> None:
    issuer.status = status
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(issuer.url).key("key-1")
    assert set(issuer.requests) <= {METADATA, "/.well-known/openid-configuration"}


class HttpsIssuer:
    """An issuer at https://login.example.com:8443. `documents` maps paths to answers."""

    url = "https://login.example.com:8443"

    def __init__(self, authority: Authority) -> None:
        self.documents = {
            METADATA: reply(json.dumps({"issuer": self.url, "jwks_uri": self.url + KEYS}).encode()),
            KEYS: reply(json.dumps({"keys": [{"kid": "key-1"}]}).encode()),
        }
        self.server = Server(
            answers(lambda path: self.documents.get(path) or reply(status="404 Not Found")),
            context=authority.server_context("login.example.com"),
        )

    def point_keys_at(self, url: str) -> None:
        self.documents[METADATA] = reply(json.dumps({"issuer": self.url, "jwks_uri": url}).encode())


@pytest.fixture
def https_issuer(outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpsIssuer]:
    authority = Authority(tmp_path)
    monkeypatch.setattr(http, "system_authorities", authority.client_context)
    issuer = HttpsIssuer(authority)
    outside.site("login.example.com", PUBLIC, issuer.server)
    yield issuer
    issuer.server.close()


async def test_an_https_issuer_on_a_port_of_its_own(outside: Outside, https_issuer: HttpsIssuer) -> None:
    assert await IssuerKeys(https_issuer.url).key("key-1") == {"kid": "key-1"}
    assert outside.dialled == [(PUBLIC, 8443)] * 2


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.0.0.1:{port}/keys", "https://localhost/keys", "https://inside.example.com/keys"),
        *("http://127.0.0.1:{port}/keys", "https://169.254.169.254/keys", "https://login.example.com:22/keys"),
    ],
)
async def test_keys_that_are_said_to_be_inside(
    outside: Outside, https_issuer: HttpsIssuer, canary: Canary, url: str
) -> None:
    outside.name("inside.example.com", "10.0.0.1")
    outside.name("localhost", "127.0.0.1")
    https_issuer.point_keys_at(url.replace("{port}", str(canary.port)))
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(https_issuer.url).key("key-1")
    assert canary.connections == 0
    assert {host for host, _ in outside.dialled} == {PUBLIC}


@pytest.mark.parametrize("path", [METADATA, KEYS])
async def test_a_redirect_chooses_the_keys(outside: Outside, https_issuer: HttpsIssuer, path: str) -> None:
    evil = reply(json.dumps({"keys": [{"kid": "key-1"}], "issuer": https_issuer.url}).encode())
    https_issuer.documents |= {path: redirect("/evil"), "/evil": evil}
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(https_issuer.url).key("key-1")
    assert not any(b"/evil" in request for request in https_issuer.server.requests)


async def test_an_issuer_inside_needs_its_network_to_be_named(outside: Outside, https_issuer: HttpsIssuer) -> None:
    outside.site("login.example.com", "10.1.2.3", https_issuer.server)
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(https_issuer.url).key("key-1")
    assert outside.dialled == []
    inside = IssuerKeys(https_issuer.url, Reach(networks=[ip_network("10.1.0.0/16")]))
    assert await inside.key("key-1") is not None


async def test_an_http_issuer_of_development_is_on_this_machine(outside: Outside) -> None:
    outside.name("login.example.com", "10.0.0.1")
    for url in ("http://10.0.0.1", "http://login.example.com"):
        with pytest.raises(IssuerUnavailable):
            await IssuerKeys(url).key("key-1")
    assert outside.dialled == []


async def test_a_proxy_in_the_environment(issuer: Issuer, canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{canary.port}")
    assert await IssuerKeys(issuer.url).key("key-1") is not None
    assert canary.connections == 0


async def test_a_compressed_key_set(https_issuer: HttpsIssuer) -> None:
    https_issuer.documents[KEYS] = reply(b"\x1f\x8b", "Content-Encoding: gzip")
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(https_issuer.url).key("key-1")
