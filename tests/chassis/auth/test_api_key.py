"""The key in `.env`."""

import pytest

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
