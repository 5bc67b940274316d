"""The issuer's keys: found, cached, and fetched again with restraint."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from {{ cookiecutter.package_name }}.auth import jwks
from {{ cookiecutter.package_name }}.auth.jwks import IssuerKeys, IssuerUnavailable

from ..support.issuer import KEYS, METADATA, Issuer, public_jwk, running_issuer
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
    clock.now += 31
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
    """A key that the issuer has withdrawn must not stay good for ever."""
    keys = IssuerKeys(issuer.url)
    await keys.key("key-1")
    issuer.rotate("key-2")
    clock.now += 599
    assert await keys.key("key-1") is not None
    clock.now += 2
    assert await keys.key("key-1") is None


async def test_while_the_issuer_is_away_old_keys_serve_for_a_day(issuer: Issuer, clock: Clock) -> None:
    keys = IssuerKeys(issuer.url)
    await keys.key("key-1")
    issuer.status = 503
    clock.now += 86_000
    assert await keys.key("key-1") is not None
    clock.now += 1_000
    with pytest.raises(IssuerUnavailable):
        await keys.key("key-1")
    issuer.status = 200
    clock.now += 31
    assert await keys.key("key-1") is not None


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


async def test_nobody_listens() -> None:
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
async def test_metadata_of_somebody_else_or_without_a_place_is_not_followed(
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
    [b"not JSON", b"[]", b'{"keys": 7}', b"{}", b"\xff\xfe", b'{"keys": [' + b"1," * 200_000 + b"1]}"],
    ids=["text", "list", "keys-number", "no-keys", "not-utf-8", "too-large"],
)
async def test_a_broken_key_set_is_as_good_as_none(issuer: Issuer, document: bytes) -> None:
    issuer.documents[KEYS] = document
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(issuer.url).key("key-1")


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_only_200_is_an_answer(issuer: Issuer, status: int) -> None:
    issuer.status = status
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(issuer.url).key("key-1")
    assert set(issuer.requests) <= {METADATA, "/.well-known/openid-configuration"}
