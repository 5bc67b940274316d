"""Counting who may still ask: in this process, and together with others in Redis."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from {{ cookiecutter.package_name }} import rate_limiter
from {{ cookiecutter.package_name }}.rate_limiter import Decision, RateLimiter

from .support.running import free_port, wait_until

pytestmark = pytest.mark.anyio


class Clock:
    """Stands in for the `time` module of the breaker."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


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
    for number in range(100):
        await limiter.hit(f"caller-{number}")
    assert not (await limiter.hit("caller-99")).allowed, "the most recent are known"
    assert (await limiter.hit("first")).allowed, "the longest unused is forgotten"


# --- with Redis ---


@dataclass
class Redis:
    """A Redis of our own, in memory only."""

    url: str
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def running_redis() -> Iterator[Redis]:
    program = shutil.which("redis-server")
    if program is None:
        hint = "there is no redis-server here: apt-get install redis-server"
        # In CI a skipped test is a test that nobody runs. Other systems than Linux have no such package.
        if os.environ.get("CI") and sys.platform == "linux":
            pytest.fail(hint)
        pytest.skip(hint)
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    redis = Redis(f"redis://127.0.0.1:{port}/0", process)
    try:
        wait_until(lambda: _listens(port))
        yield redis
    finally:
        redis.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _allowed(*limiters: RateLimiter, hits: int) -> int:
    """Return how many of `hits` were allowed, with the limiters asked in turn."""
    decisions = [await limiters[number % len(limiters)].hit("alice") for number in range(hits)]
    return sum(decision.allowed for decision in decisions)


@asynccontextmanager
async def _sharing(redis: Redis, *names: str) -> AsyncIterator[list[RateLimiter]]:
    """Limiters as several processes have them: each with connections of its own."""
    limiters = [RateLimiter(name, per_minute=1, burst=10, redis_url=redis.url) for name in names]
    try:
        yield limiters
    finally:
        for limiter in limiters:
            shared: Any = limiter._shared
            await shared._store._backend.get_client().connection_pool.disconnect()


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine even a healthy Redis may need more than the quarter second of production."""
    monkeypatch.setattr(rate_limiter, "_REDIS_TIMEOUT", 5)


@pytest.mark.usefixtures("_patient")
async def test_two_processes_share_one_limit_and_outlive_their_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(rate_limiter, "time", clock)
    with running_redis() as redis:
        async with _sharing(redis, "test", "test", "another") as (one, other, another):
            assert await _allowed(one, other, hits=30) == 10
            assert (await another.hit("alice")).remaining == 9

            redis.kill()
            started = time.perf_counter()
            assert await _allowed(one, hits=30) == 10, "each process counts by itself, but it counts"
            assert time.perf_counter() - started < 1
            clock.now += 6
            assert not (await one.hit("alice")).allowed, "Redis is tried again, and is still away"


@pytest.mark.usefixtures("_patient")
async def test_a_crowd_at_once_is_still_counted_together() -> None:
    """More callers at once than connections: they wait their turn, they do not declare Redis dead."""
    with running_redis() as redis:
        async with _sharing(redis, "test", "test") as limiters:
            decisions: list[Decision] = []

            async def hit(limiter: RateLimiter) -> None:
                decisions.append(await limiter.hit("alice"))

            async with anyio.create_task_group() as tasks:
                for limiter in limiters * 100:
                    tasks.start_soon(hit, limiter)
            assert sum(decision.allowed for decision in decisions) == 10


async def test_an_unreachable_redis_costs_one_attempt_in_each_cool_down() -> None:
    limiter = RateLimiter("test", per_minute=1, burst=5, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    started = time.perf_counter()
    assert await _allowed(limiter, hits=100) == 5
    assert time.perf_counter() - started < 1


async def test_a_redis_that_accepts_and_never_answers_delays_one_request_by_a_quarter_second() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limiter = RateLimiter("test", per_minute=1, burst=5, redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        started = time.perf_counter()
        assert await _allowed(limiter, hits=100) == 5
        assert time.perf_counter() - started < 1
