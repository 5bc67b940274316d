"""Counting wrong credentials: by address, and in all."""

from types import SimpleNamespace

import pytest

from mcp_chassis.limits import lockout as failed_attempts
from mcp_chassis.limits.lockout import FailedAttempts

pytestmark = pytest.mark.anyio


async def fail(attempts: FailedAttempts, *addresses: str) -> None:
    for address in addresses:
        await attempts.note(address)


async def test_an_address_may_fail_a_few_times() -> None:
    attempts = FailedAttempts(per_minute=3, overall_per_minute=100)
    for _ in range(3):
        assert await attempts.wait("a") == 0
        assert await attempts.note("a") == 0
    assert 0 < await attempts.wait("a") <= 20
    assert 0 < await attempts.note("a") <= 20
    assert await attempts.wait("b") == 0


async def test_during_a_distributed_attack_the_limit_is_for_addresses_that_have_failed() -> None:
    attempts = FailedAttempts(per_minute=10, overall_per_minute=20)
    await fail(attempts, *(f"bot-{number}" for number in range(20)))
    assert 0 < await attempts.wait("bot-0") <= 3, "one failure is enough while there are so many in all"
    assert await attempts.wait("a caller with a valid credential") == 0
    await fail(attempts, "bot-20")
    assert await attempts.wait("bot-20") > 0


async def test_a_failure_is_forgotten_after_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(failed_attempts, "time", SimpleNamespace(monotonic=lambda: clock.now))
    attempts = FailedAttempts(per_minute=10, overall_per_minute=20)
    await fail(attempts, "a", *(f"bot-{number}" for number in range(20)))
    clock.now += 599.9
    assert await attempts.wait("a") > 0
    clock.now = 1600
    assert await attempts.wait("a") == 0


async def test_a_guess_is_forgotten_after_ten_minutes_although_later_failures_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(failed_attempts, "time", SimpleNamespace(monotonic=lambda: clock.now))
    attempts = FailedAttempts(per_minute=10, overall_per_minute=2)
    await fail(attempts, "a")
    clock.now = 1500
    await attempts.note("a", guess=False)
    clock.now = 1599.9
    await fail(attempts, "bot-1")
    assert await attempts.wait("a") > 0
    clock.now = 1600
    assert await attempts.wait("a") == 0


async def test_what_was_good_once_is_limited_by_its_address_only() -> None:
    attempts = FailedAttempts(per_minute=2, overall_per_minute=2)
    await fail(attempts, "bot-1", "bot-2", "bot-3")
    assert await attempts.note("user", guess=False) == 0
    assert await attempts.wait("user") == 0
    assert await attempts.note("user", guess=False) == 0
    assert await attempts.note("user", guess=False) > 0


async def test_what_was_good_once_is_not_counted_among_the_guesses_of_all() -> None:
    attempts = FailedAttempts(per_minute=10, overall_per_minute=2)
    for number in range(10):
        await attempts.note(f"user-{number}", guess=False)
    await fail(attempts, "bot")
    assert await attempts.wait("bot") == 0


async def test_the_memory_for_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_attempts, "MAX_ADDRESSES", 10)
    attempts = FailedAttempts(per_minute=10, overall_per_minute=100)
    await fail(attempts, *(f"bot-{number}" for number in range(50)), "bot-41")
    assert list(attempts._failed_at) == [f"bot-{number}" for number in (40, *range(42, 50), 41)]
