"""What clients notice when a part fails under load: nothing is lost, nothing runs twice, Redis may go and come."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..attacks.wire import call as call_tool
from ..attacks.wire import forwarded_for, send
from ..support.running import wait_until
from .running import Load, Site, call, running_site

READY, DEGRADED = ["ready"] * 2, ["ready, degraded"] * 2


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Two replicas with the time-out of production, and twenty wrong credentials a minute for each address."""
    with running_site(tmp_path, max_failed_auth_per_minute="20", max_failed_auth_overall="1000") as running:
        yield running


def judged_guesses(site: Site, address: str) -> int:
    """Return how many of forty wrong credentials of one address are judged; the replicas are asked alternately."""
    headers = [("Authorization", "Bearer wrong"), forwarded_for(address)]
    statuses = Counter(
        send(site.replicas[number % 2].running, "GET", "/security/events", headers).status for number in range(40)
    )
    assert set(statuses) <= {401, 429}
    return statuses[401]


def test_a_redis_that_is_killed_hung_or_restarted_fails_no_request(site: Site) -> None:
    with Load(site).running() as load:
        load.more(100)

        site.redis.hang()
        wait_until(lambda: site.state_of_replicas == DEGRADED, seconds=20)
        load.more(100)
        site.redis.go_on()
        wait_until(lambda: site.state_of_replicas == READY, seconds=20)

        site.redis.kill()
        wait_until(lambda: site.state_of_replicas == DEGRADED, seconds=20)
        load.more(100)
        in_outage = judged_guesses(site, "203.0.113.1")
        allowed = [call_tool(replica.running, "six_a_minute", {})[0] for replica in site.replicas for _ in range(6)]
        site.redis.start()
        wait_until(lambda: site.state_of_replicas == READY, seconds=20)
        load.more(100)
    assert set(load.statuses) == {200}
    # A time-out is a quarter of a second; the rest is for a machine that has other things to do.
    assert max(attempt.seconds for attempt in load.attempts) < 3
    # Each replica allows its half, and what comes back meanwhile.
    assert 20 <= in_outage <= 30
    assert 6 <= allowed.count(False) <= 8
    shared_again(site)
    with site.http() as client:
        report = client.get("/health").json()
        assert (report["status"], report["problems"]) == ("ok", [])


def shared_again(site: Site) -> None:
    """A replica may take a slow moment for an outage and count alone for a second: it must come to one count soon."""
    deadline = time.monotonic() + 30
    for attempt in range(100):
        started = time.monotonic()
        heard = judged_guesses(site, f"198.51.100.{attempt}")
        if 20 <= heard <= 21 + (time.monotonic() - started) // 3:
            return
        assert time.monotonic() < deadline, f"{heard} of 40 were looked at, and 20 should have been"


def test_a_replica_that_is_killed_takes_only_its_own_calls_with_it(site: Site) -> None:
    with Load(site, threads=6).running() as load, ThreadPoolExecutor(1) as pool, site.http() as client:
        load.more(150)
        slow = pool.submit(client.post, "/mcp", json=call("record_slowly", number="slow"))
        wait_until(lambda: any("slow" in trace for trace in traces(site)))
        (victim,) = (replica for replica, trace in zip(site.replicas, traces(site), strict=True) if "slow" in trace)
        killed = time.monotonic()
        victim.process.kill()
        victim.process.wait()
        gone = time.monotonic()
        assert slow.result(10).status_code == 502, "it has run, so it must not run again"
        load.more(300)
    late = [attempt for attempt in load.attempts if attempt.began > gone + 1 and attempt.status != 200]
    assert not late, "nginx has noticed"
    lost = [attempt for attempt in load.attempts if attempt.status != 200]
    assert len(lost) <= load.threads, "what it was doing, and nothing else"
    assert all(attempt.began + attempt.seconds > killed for attempt in lost)

    one, other = traces(site)
    done = Counter(one + other)
    answered = {attempt.number for attempt in load.attempts if attempt.status == 200}
    assert answered <= set(done), "what was answered was done"
    assert max(done.values()) == 1, "and no call was repeated by the proxy"
    assert min(len(one), len(other)) >= 50


def traces(site: Site) -> list[list[str]]:
    """Return what the tools of each replica have done."""
    files = [replica.directory / "trace" for replica in site.replicas]
    return [file.read_text().split() if file.exists() else [] for file in files]
