"""The key in `.env`."""

import hashlib
import hmac
from contextlib import suppress

import pytest

from mcp_chassis.auth.keys import api_key
from mcp_chassis.auth.keys.api_key import ApiKeyVerifier
from mcp_chassis.auth.principal import Principal
from mcp_chassis.auth.verifier import InvalidCredential

pytestmark = pytest.mark.anyio

KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"


async def test_the_key_stands_for_a_principal_with_every_scope() -> None:
    principal = await ApiKeyVerifier(KEY).verify(KEY)
    assert principal == Principal("key:default", "key", frozenset({"*"}))
    assert KEY not in repr(principal)


@pytest.mark.parametrize("token", ["", "x", KEY[:-1], KEY + "x", KEY.lower(), KEY + "\n", " " + KEY, "ключ", "🔑"])
async def test_any_other_text_is_refused(token: str) -> None:
    """Non-ASCII text is a refusal as well: `hmac.compare_digest` raises TypeError for it."""
    with pytest.raises(InvalidCredential) as refusal:
        await ApiKeyVerifier(KEY).verify(token)
    assert refusal.value.reason == "unknown"
    assert KEY not in str(refusal.value)


@pytest.mark.parametrize("token", [KEY, KEY[:-1], "x", "", "ключ"])
async def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """How many characters of a guess are right must not show in the time of an answer."""
    compared: list[tuple[bytes, bytes]] = []

    class Recording:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(api_key, "hmac", Recording)
    with suppress(InvalidCredential):
        await ApiKeyVerifier(KEY).verify(token)
    assert compared == [(hashlib.sha256(token.encode()).digest(), hashlib.sha256(KEY.encode()).digest())]
