"""Remembering good tokens."""

import gc
from types import SimpleNamespace

import pytest

from mcp_chassis.auth.oauth import verdict_cache
from mcp_chassis.auth.oauth.verdict_cache import Verdict, VerdictCache
from mcp_chassis.auth.principal import Principal

ALICE = Principal("oauth:alice", "oauth")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(verdict_cache, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


def test_a_verdict_is_remembered_until_its_end_and_not_a_second_longer(clock: SimpleNamespace) -> None:
    cache = VerdictCache[Verdict]()
    cache.put("token", Verdict(principal=ALICE, until=1010))
    clock.now = 1009.9
    assert cache.get("token") == Verdict(principal=ALICE, until=1010)
    assert cache.get("token2") is None
    clock.now = 1010
    assert cache.get("token") is None
    assert cache.last("token") == Verdict(principal=ALICE, until=1010), "it was good when it was last looked at"
    cache.drop("token")
    assert cache.last("token") is None


def test_the_table_does_not_grow_and_what_is_in_use_stays(clock: SimpleNamespace) -> None:
    cache = VerdictCache[Verdict](size=3)
    for name in ("a", "b", "c"):
        cache.put(name, Verdict(principal=ALICE, until=2000))
    cache.get("a")
    cache.put("d", Verdict(principal=ALICE, until=2000))
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]


def test_a_verdict_can_be_dropped() -> None:
    cache = VerdictCache[Verdict]()
    cache.put("token", Verdict(principal=ALICE, until=1e12))
    cache.drop("token")
    cache.drop("token")
    assert cache.get("token") is None


def test_no_token_is_kept() -> None:
    """A dump of the memory, or a bug that prints the cache, must not hold usable tokens."""
    cache, token = VerdictCache[Verdict](), "a-token-" + "x" * 40
    cache.put(token, Verdict(principal=ALICE, until=1e12))
    assert token not in repr(vars(cache))
    assert not any(
        token in referred for referred in gc.get_referents(*gc.get_referents(cache)) if isinstance(referred, dict)
    )
