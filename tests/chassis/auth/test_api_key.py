"""The key in `.env`."""

import hashlib
import hmac
from contextlib import suppress

import pytest

from mcp_chassis.auth.keys import verifier as key_verifier
from mcp_chassis.auth.keys.records import default_record
from mcp_chassis.auth.keys.verifier import KeyVerifier
from mcp_chassis.auth.principal import Principal
from mcp_chassis.auth.verifier import InvalidCredential

pytestmark = pytest.mark.anyio

KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"
MARKED = f"mcp_{KEY}"


def verifier_of(key: str) -> KeyVerifier:
    return KeyVerifier(dict, default=default_record(key))


@pytest.mark.parametrize("key", [KEY, MARKED], ids=["older form", "with prefix"])
async def test_the_key_stands_for_a_principal_with_every_scope(key: str) -> None:
    principal = await verifier_of(key).verify(key)
    assert principal == Principal("key:default", "key", frozenset({"*"}))
    assert key not in repr(principal)


@pytest.mark.parametrize("token", ["", "x", KEY[:-1], KEY + "x", KEY.lower(), KEY + "\n", " " + KEY, "ключ", "🔑"])
async def test_any_other_text_is_not_this_key(token: str) -> None:
    """Nor does non-ASCII text raise: `hmac.compare_digest` raises TypeError for it."""
    assert await verifier_of(KEY).verify(token) is None


@pytest.mark.parametrize("token", ["mcp_", MARKED[:-1], MARKED + "x", "mcp_" + KEY.lower(), "mcp_ключ"])
async def test_any_other_text_with_the_prefix_is_refused_here(token: str) -> None:
    with pytest.raises(InvalidCredential) as refusal:
        await verifier_of(MARKED).verify(token)
    assert KEY not in str(refusal.value)


@pytest.mark.parametrize("token", [KEY, KEY[:-1], "x", "", "ключ"])
async def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """How many characters of a guess are right must not show in the time of an answer."""
    compared: list[tuple[bytes, ...]] = []

    class Recording:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(key_verifier, "hmac", Recording)
    with suppress(InvalidCredential):
        await verifier_of(KEY).verify(token)
    assert compared[0] == tuple(hashlib.sha256(text.encode()).hexdigest().encode() for text in (token, KEY))
    assert {len(digest) for pair in compared for digest in pair} == {64}
