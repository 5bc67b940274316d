"""What replicas share, with two of them in this process and a real Redis that comes and goes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest
from mcp.server.subscriptions import ResourceUpdated, ServerEvent, ToolsListChanged

from mcp_chassis.events.log import EventLog, SecurityEvent
from mcp_chassis.limits.lockout import FailedAttempts
from mcp_chassis.replicas import connection, events
from mcp_chassis.replicas.connection import SharedRedis
from mcp_chassis.replicas.fleet import Fleet
from mcp_chassis.replicas.rate_limiter import SharedRateLimiter

from ..support.redis import Redis, running_redis

pytestmark = pytest.mark.anyio


@dataclass
class Two:
    """Two replicas and their Redis."""

    redis: Redis
    one: Fleet
    other: Fleet


@pytest.fixture
async def fleets(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    """Two replicas whose hearts beat fast."""
    monkeypatch.setattr(connection, "_HEARTBEAT", 0.05)
    with running_redis() as redis:
        async with replica(redis, "one") as one, replica(redis, "other") as other:
            yield Two(redis, one, other)


@asynccontextmanager
async def replica(redis: Redis, name: str, **options: Any) -> AsyncIterator[Fleet]:
    """Run one replica."""
    connection = SharedRedis(redis.url, project="project", timeout=5)
    fleet = Fleet(connection, question_lifetime=300, replica=name, **options)
    async with fleet.running():
        yield fleet


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is true."""
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.02)


async def outage(two: Two) -> None:
    """Let Redis go, and wait until both have noticed."""
    two.redis.kill()
    await until(lambda: two.one.redis.is_unavailable and two.other.redis.is_unavailable)


async def restart(two: Two) -> None:
    """Let Redis come back with an empty memory."""
    two.redis.start()
    await until(lambda: not (two.one.redis.is_unavailable or two.other.redis.is_unavailable))


# --- keys ---


async def test_the_latest_day_on_which_any_replica_was_shown_a_key_counts(fleets: Two) -> None:
    """A replica may have noted yesterday, and come to write it after another has written today."""
    today, yesterday = {"aaaaaaaaaa": "2026-07-28"}, {"aaaaaaaaaa": "2026-07-27", "bbbbbbbbbb": "2026-07-27"}
    async with replica(fleets.redis, "first", used=lambda: today) as first:
        await first.key_use.sync()
        assert await fleets.one.key_use.days() == today
        async with replica(fleets.redis, "late", used=lambda: yesterday) as late:
            await late.key_use.sync()
            assert await fleets.one.key_use.days() == yesterday | today


# --- confirmations ---


async def test_a_question_is_answered_once_anywhere(fleets: Two) -> None:
    state = await fleets.one.questions.put()
    assert state is not None
    assert await fleets.other.questions.answer(state) is True
    assert await fleets.one.questions.answer(state) is False
    assert await fleets.one.questions.answer("never asked") is False


async def test_a_question_is_forgotten_when_its_seal_ends(fleets: Two) -> None:
    state = await fleets.one.questions.put()
    assert state is not None
    left: Any = await fleets.one.redis.ask(lambda client: client.pttl(fleets.one.questions._name(state)))
    assert 290_000 < left <= 300_000


async def test_an_answer_does_not_count_again_because_redis_has_lost_its_memory(fleets: Two) -> None:
    state = await fleets.one.questions.put()
    assert state is not None
    assert await fleets.one.questions.answer(state)
    await outage(fleets)
    assert await fleets.one.questions.answer(state) is None
    assert await fleets.one.questions.put() is None
    await restart(fleets)
    assert await fleets.other.questions.answer(state) is False


# --- revocations ---


async def test_a_revocation_outlives_a_redis_that_forgets(fleets: Two) -> None:
    async with replica(fleets.redis, "first", revoked=lambda: ["aaaaaaaaaa"]):
        await until(lambda: "aaaaaaaaaa" in fleets.other.revocations)
    await outage(fleets)
    assert "aaaaaaaaaa" in fleets.other.revocations
    await restart(fleets)
    async with replica(fleets.redis, "third") as third:
        await until(lambda: "aaaaaaaaaa" in third.revocations)


# --- events ---


def event(number: int) -> SecurityEvent:
    """Return an event of either of two kinds."""
    kind: Any = ("http_error", "authentication_failed")[number % 2]
    return SecurityEvent("2026-01-01T00:00:00+00:00", kind, f"caller-{number}", {}, "low")


async def test_events_wait_for_an_unavailable_redis_and_no_call_waits_for_them(fleets: Two) -> None:
    log = EventLog(listeners=[fleets.one.events.add])
    await outage(fleets)
    for number in range(5):
        log.record("http_error", f"caller-{number}")
    await fleets.one.events.flush()
    assert await fleets.other.events.page(10) is None
    await restart(fleets)
    await fleets.one.events.flush()
    page: Any = await fleets.other.events.page(10)
    assert [entry["identifier"] for entry in page["events"]] == [f"caller-{n}" for n in (4, 3, 2, 1, 0)]
    assert {entry["replica"] for entry in page["events"]} == {"one"}


async def test_what_waits_is_bounded_and_the_newest_stays(fleets: Two) -> None:
    await outage(fleets)
    for number in range(1500):
        fleets.one.events.add(event(number))
    await fleets.one.events.flush()
    await restart(fleets)
    page: Any = await fleets.one.events.page(1000)
    assert page["events"][0]["identifier"] == "caller-1499"
    assert page["totalEvents"] == 1000


async def test_pages_of_one_kind(fleets: Two) -> None:
    for number in range(10):
        fleets.one.events.add(event(number))
    seen, before, pages = [], None, 0
    while True:
        page: Any = await fleets.other.events.page(2, kind="http_error", before=before)
        await fleets.one.events.flush()
        pages += 1
        seen += [entry["identifier"] for entry in page["events"]]
        before = page["next"]
        if before is None and seen:
            break
    assert seen == [f"caller-{n}" for n in (8, 6, 4, 2, 0)]


async def test_the_stream_does_not_grow_without_limit(fleets: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_KEPT", 100)
    for number in range(1000):
        fleets.one.events.add(event(number))
    await fleets.one.events.flush()
    length: Any = await fleets.one.redis.ask(lambda client: client.xlen("project:events"))
    assert 100 <= length <= 300


async def test_a_flood_is_one_event_with_a_count(fleets: Two) -> None:
    log = EventLog(listeners=[fleets.one.events.add])
    for _ in range(100):
        log.record("http_error", "a client")
    log.flush()
    page: Any = await fleets.one.events.page(100)
    assert page["totalEvents"] == log.total == 100
    assert len(page["events"]) == 11
    assert page["events"][0]["details"]["count"] == 90


# --- change notifications ---


async def test_changes_are_received_once_by_each_replica_and_again_after_an_outage(fleets: Two) -> None:
    here: list[ServerEvent] = []
    there: list[ServerEvent] = []
    fleets.one.bus.subscribe(here.append)
    fleets.other.bus.subscribe(there.append)

    async def say(uri: str) -> None:
        """Say something until the other has subscribed (again)."""
        with anyio.fail_after(20):
            while ResourceUpdated(uri=uri) not in there:
                await fleets.one.bus.publish(ResourceUpdated(uri=uri))
                await anyio.sleep(0.05)

    await say("a://1")
    there.clear()
    here.clear()
    await fleets.one.bus.publish(ToolsListChanged())
    await until(lambda: there == [ToolsListChanged()])
    assert here == [ToolsListChanged()], "its own message is not received twice"
    await outage(fleets)
    await fleets.one.bus.publish(ResourceUpdated(uri="a://2"))
    assert ResourceUpdated(uri="a://2") in here, "an unavailable Redis does not keep this replica's clients waiting"
    await restart(fleets)
    await say("a://3")


@pytest.mark.parametrize(
    "nonsense", ["", "[]", "no json", '["x", "Unknown", {}]', '["x", "ResourceUpdated", {"a": 1}]']
)
async def test_nonsense_on_the_channel_is_left_out(fleets: Two, nonsense: str) -> None:
    received: list[ServerEvent] = []
    fleets.one.bus.subscribe(received.append)
    channel = fleets.one.redis.channel("changes")
    with anyio.fail_after(20):
        while not received:
            await fleets.other.redis.ask(lambda client: client.publish(channel, nonsense))
            await fleets.other.bus.publish(ToolsListChanged())
            await anyio.sleep(0.05)
    assert set(received) == {ToolsListChanged()}


# --- wrong credentials ---


async def test_an_address_that_failed_at_one_replica_is_limited_by_another_during_an_attack(fleets: Two) -> None:
    boxes = [
        FailedAttempts(
            per_minute=10,
            overall_per_minute=5,
            make_limiter=partial(SharedRateLimiter, redis=fleet.redis),
            shared=fleet.failures,
        )
        for fleet in (fleets.one, fleets.other)
    ]
    for number in range(5):
        await boxes[0].note(f"bot-{number}")
    with anyio.fail_after(20):
        while not await boxes[1].wait("bot-0"):  # noqa: ASYNC110  # it has failed within the minute, and there are too many failures in all
            await anyio.sleep(0.02)
    assert await boxes[1].wait("another") == 0
