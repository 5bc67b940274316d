"""Counting requests of callers: in this process, and together with others in Redis."""

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from mcp_chassis.limits import rate_limiter
from mcp_chassis.limits.rate_limiter import Decision, RateLimiter
from mcp_chassis.replicas.connection import SharedRedis
from mcp_chassis.replicas.rate_limiter import SharedRateLimiter

from .support.redis import running_redis
from .support.running import free_port

pytestmark = pytest.mark.anyio


# --- in memory ---


async def test_the_burst_is_allowed_then_the_sustained_rate() -> None:
    limiter = RateLimiter("test", per_minute=120, burst=3)
    decisions = [await limiter.hit("alice") for _ in range(5)]
    assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
    assert [decision.remaining for decision in decisions] == [2, 1, 0, 0, 0]
    assert decisions[0].retry_after == 0
    assert decisions[-1].retry_after == 1
    assert decisions[-1].reset == 2
    await anyio.sleep(0.6)
    assert (await limiter.hit("alice")).allowed
    assert not (await limiter.hit("alice")).allowed


async def test_seconds_are_those_of_the_rate() -> None:
    limiter = RateLimiter("test", per_minute=1, burst=3)
    assert (await limiter.hit("alice")).reset == 60
    assert (await limiter.hit("alice", places=2)).reset == 180
    assert await limiter.hit("alice") == Decision(allowed=False, remaining=0, reset=180, retry_after=60)


async def test_a_request_takes_at_least_one_place() -> None:
    limiter = RateLimiter("test", per_minute=1, burst=3)
    assert [(await limiter.hit("alice", places=places)).remaining for places in (0, -5, 1)] == [2, 1, 0]


async def test_a_pause_saves_up_no_more_than_the_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(rate_limiter, "time", SimpleNamespace(monotonic=lambda: clock.now))
    limiter = RateLimiter("test", per_minute=60, burst=3)
    await limiter.hit("alice")
    clock.now += 3600
    assert [(await limiter.hit("alice")).allowed for _ in range(5)] == [True, True, True, False, False]


async def test_waiting_for_retry_after_is_enough() -> None:
    limiter = RateLimiter("test", per_minute=120, burst=1)
    await limiter.hit("alice")
    refused = await limiter.hit("alice")
    await anyio.sleep(refused.retry_after)
    assert (await limiter.hit("alice")).allowed


async def test_one_caller_does_not_use_up_the_places_of_another() -> None:
    limiter = RateLimiter("test", per_minute=1, burst=1)
    assert (await limiter.hit("alice")).allowed
    assert not (await limiter.hit("alice")).allowed
    assert (await limiter.hit("bob")).allowed


async def test_peeking_takes_no_place() -> None:
    limiter = RateLimiter("test", per_minute=1, burst=2)
    for _ in range(5):
        assert await limiter.peek("alice") == Decision(allowed=True, remaining=2, reset=0, retry_after=0)
    await limiter.hit("alice")
    await limiter.hit("alice")
    assert not (await limiter.peek("alice")).allowed


async def test_peeking_tells_how_long_to_wait_as_hitting_does() -> None:
    limiter = RateLimiter("test", per_minute=6, burst=2)
    for _ in range(2):
        await limiter.hit("alice")
    assert (await limiter.peek("alice")).retry_after == 10
    assert (await limiter.hit("alice")).retry_after == 10


async def test_the_table_of_callers_does_not_grow_beyond_its_size() -> None:
    limiter = RateLimiter("test", per_minute=1, burst=1, max_keys=100)
    await limiter.hit("first")
    for number in range(99):
        await limiter.hit(f"caller-{number}")
    assert not (await limiter.hit("first")).allowed, "there is room for 100"
    for number in range(100):
        await limiter.hit(f"caller-{number}")
    assert not (await limiter.hit("caller-99")).allowed, "the most recent are known"
    assert (await limiter.hit("first")).allowed, "the longest unused is forgotten"


# --- with Redis ---


async def _allowed(*limiters: RateLimiter, hits: int) -> int:
    """Return how many of `hits` were allowed, with the limiters asked alternately."""
    decisions = [await limiters[number % len(limiters)].hit("alice") for number in range(hits)]
    return sum(decision.allowed for decision in decisions)


@asynccontextmanager
async def _connections(url: str, number: int, *, seconds: float = 5) -> AsyncIterator[list[SharedRedis]]:
    """Connections as several processes have them, patient: on a busy machine a healthy Redis may take its time."""
    made = [SharedRedis(url, project="test", timeout=seconds) for _ in range(number)]
    try:
        yield made
    finally:
        for redis in made:
            await redis.close()


def _limiter(redis: SharedRedis, name: str = "test", **options: Any) -> RateLimiter:
    return SharedRateLimiter(name, per_minute=1, burst=10, redis=redis, **options)


async def test_two_processes_share_one_limit() -> None:
    with running_redis() as server:
        async with _connections(server.url, 2) as (one, other):
            assert await _allowed(_limiter(one), _limiter(other), hits=30) == 10
            peeked = await _limiter(other).peek("alice")
            assert not peeked.allowed
            assert 1 < peeked.retry_after <= 60, "until one place is free, not until all are"
            assert (await _limiter(one, "another").hit("alice")).remaining == 9


async def test_several_places_are_taken_at_once_or_not_at_all() -> None:
    with running_redis() as server:
        async with _connections(server.url, 1) as (redis,):
            for limiter in (_limiter(redis, "several"), RateLimiter("several", per_minute=1, burst=10)):
                taken = [(await limiter.hit("alice", places)).remaining for places in (1, 4, 6, 5, 1)]
                assert taken == [9, 5, 5, 0, 0]
                assert (await limiter.hit("bob")).allowed
                assert (await limiter.hit("bob", 1000)).allowed, "not more than there can be, but for the one before"
                refused = await limiter.hit("bob", 2)
                assert (refused.allowed, 60 < refused.retry_after <= 120) == (False, True)


async def test_a_crowd_at_once_is_still_counted_together() -> None:
    """More callers at once than connections: they wait their turn, they do not declare Redis dead."""
    with running_redis() as server:
        async with _connections(server.url, 2) as connections:
            decisions: list[Decision] = []

            async def hit(limiter: RateLimiter) -> None:
                decisions.append(await limiter.hit("alice"))

            async with anyio.create_task_group() as tasks:
                for limiter in [_limiter(redis) for redis in connections] * 100:
                    tasks.start_soon(hit, limiter)
            assert sum(decision.allowed for decision in decisions) == 10


async def test_while_redis_is_unavailable_each_process_allows_its_part() -> None:
    async with _connections(f"redis://127.0.0.1:{free_port()}/0", 2) as connections:
        limiters = [_limiter(redis, processes=2) for redis in connections]
        assert await _allowed(*limiters, hits=30) == 10
        assert await _allowed(limiters[0], hits=5) == 0
        assert not (await limiters[0].peek("alice")).allowed
        assert (await limiters[0].peek("bob")).allowed


async def test_or_no_caller_or_every_caller_as_configured() -> None:
    async with _connections(f"redis://127.0.0.1:{free_port()}/0", 1) as (redis,):
        closed, opened = _limiter(redis, on_outage="closed"), _limiter(redis, on_outage="open")
        assert await _allowed(closed, hits=20) == 0
        assert (await closed.hit("alice")).retry_after == 5
        assert await _allowed(opened, hits=20) == 20
        assert (await closed.peek("alice")).allowed, "no caller is locked out because Redis is unavailable"


async def test_a_redis_that_accepts_and_never_answers_delays_one_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        async with _connections(url, 1, seconds=0.25) as (redis,):
            started = time.perf_counter()
            assert await _allowed(_limiter(redis), hits=100) == 10
            assert time.perf_counter() - started < 1.5
