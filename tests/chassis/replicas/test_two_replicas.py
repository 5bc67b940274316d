"""To its clients, two replicas are one server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.shared.subscriptions import ResourceUpdated
from mcp.types import CallToolResult, ElicitResult, InputRequiredResult

from mcp_chassis.auth.keys.format import digest, new_id, new_key
from mcp_chassis.auth.keys.records import KeyRecord, format_records

from ..attacks.streams import PROMISED, listen, seconds_until_the_end
from ..attacks.wire import forwarded_for, send
from ..support.callers import MODES
from ..support.running import environment, text, wait_until
from .running import TEST_TOOLS, Site, call, running_site
from .tools import SERVER

pytestmark = pytest.mark.anyio
LIMIT = 60
YES = ElicitResult(action="accept", content={"confirm": True})


def made_key() -> tuple[str, KeyRecord]:
    """Return a key and what is kept of it."""
    key_id = new_id()
    key = new_key(key_id)
    now = "2026-01-01T00:00:00Z"
    record = {"id": key_id, "name": f"test {key_id}", "scopes": ["*"], "sha256": digest(key), "created": now}
    return key, KeyRecord.model_validate(record)


KEYS = dict(made_key() for _ in range(8))
FRESH = iter(KEYS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Each caller has 60 places, and one more a minute. On a busy machine Redis is not taken to be unavailable.

    Replicas that counted by themselves would each let in 60: `REPLICAS` is 1, so that none allows its part only.
    """
    with running_site(
        tmp_path_factory.mktemp("site"),
        keys=format_records(KEYS.values()),
        rate_limit_burst=str(LIMIT),
        max_requests_per_minute="1",
        redis_timeout="10",
        replicas="1",
    ) as running:
        yield running


@pytest.fixture
def key() -> str:
    """A caller whom no other test knows."""
    return next(FRESH)


def caller(key: str) -> str:
    """Return the name of a caller in events."""
    return f"key:{KEYS[key].id}"


# --- the rate limit ---


@pytest.mark.parametrize("mode", MODES)
async def test_the_limit_is_exact_whichever_replica_is_asked(site: Site, key: str, mode: str) -> None:
    seen, refused = set(), 0
    async with site.client(key=key, mode=mode) as client:
        for _ in range(LIMIT + 5):
            try:
                seen.add(text(await client.call_tool("who", {})))
            except MCPError:
                refused += 1
    assert len(seen) == 2, "nginx asks them alternately"
    assert refused >= 5
    # Connecting takes places too, so what counts is what the servers have let in.
    lines = [json.loads(line) for replica in site.replicas for line in replica.written().splitlines()]
    mine = [line for line in lines if line.get("logger") in {"access", "audit"} and line["principal"] == caller(key)]
    # By request: a call that was answered leaves the line of the call, which has no status.
    statuses = {line["request_id"]: line.get("status", 200) for line in mine}
    assert sum(status != 429 for status in statuses.values()) == LIMIT


async def test_so_is_the_limit_of_a_tool(site: Site, key: str) -> None:
    results = []
    async with site.client(key=key) as client:
        for _ in range(12):
            results.append(await client.call_tool("six_a_minute", {}))
    assert 6 <= sum(not result.is_error for result in results) <= 7  # a place comes back after ten seconds


# --- wrong credentials and keys ---


def wrong_key(site: Site, replica: int, address: str) -> int:
    headers = [("Authorization", "Bearer wrong"), forwarded_for(address)]
    return send(site.replicas[replica].running, "GET", "/security/events", headers).status


def test_an_address_that_guesses_at_one_replica_is_limited_by_the_other(site: Site) -> None:
    seen = [wrong_key(site, number % 2, "203.0.113.7") for number in range(14)]
    assert seen[:10] == [401] * 10
    assert set(seen[11:]) == {429}, "a place comes back after six seconds"
    assert wrong_key(site, 0, "203.0.113.8") == 401


def test_what_a_client_says_of_its_address_does_not_pass_nginx(site: Site) -> None:
    with site.http("wrong") as client:
        assert client.get("/security/events", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 401
        client.headers["Authorization"] = f"Bearer {site.key}"
        wait_until(lambda: '"client":"127.0.0.1"' in client.get("/security/events?event=authentication_failed").text)
        assert "203.0.113.9" not in client.get("/security/events").text


def test_a_key_that_is_revoked_on_one_machine_is_refused_on_all(site: Site, key: str) -> None:
    """The key is in the setting `KEYS`, so no file of the other replica changes."""
    # An address of its own: a revoked key is a wrong one, and may reach the limit of its address.
    header = [("Authorization", f"Bearer {key}"), forwarded_for("203.0.113.20")]
    seen = set()

    def statuses() -> list[int]:
        found = [send(replica.running, "GET", "/security/events", header).status for replica in site.replicas]
        seen.update(found)
        return found

    assert statuses() == [200, 200]
    streams = [listen(replica.running, key)[0] for replica in site.replicas]
    variables = environment(
        redis_url=site.redis.url, state_secret=site.key, keys_file="keys.json", keys=format_records(KEYS.values())
    )

    def keys(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", TEST_TOOLS, "keys", *arguments],
            cwd=site.replicas[0].directory,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # The replicas share no file. They tell Redis within a second on which day a key was used.
    (line,) = (line for line in keys("list").splitlines() if line.startswith(KEYS[key].id))
    assert f"  {datetime.now(UTC).date()}  " in line
    keys("revoke", KEYS[key].id)
    for stream in streams:
        with stream:
            assert seconds_until_the_end(stream) < PROMISED
    wait_until(lambda: 200 not in statuses(), seconds=10)
    assert seen <= {200, 401, 429}
    assert 401 in seen


# --- confirmations ---


async def asked(client: Client, number: str) -> str:
    question = await client.session.call_tool("destroy", {"number": number}, allow_input_required=True)
    assert isinstance(question, InputRequiredResult)
    assert question.request_state is not None
    return question.request_state


async def answered(client: Client, state: str, number: str) -> CallToolResult | InputRequiredResult:
    return await client.session.call_tool(
        "destroy",
        {"number": number},
        input_responses={"confirm": YES},
        request_state=state,
        allow_input_required=True,
    )


async def _unused(context: object, params: object) -> ElicitResult:
    return YES


def traces(site: Site) -> list[str]:
    """Return what the tools have done, on both replicas."""
    files = [replica.directory / "trace" for replica in site.replicas]
    return [line for file in files if file.exists() for line in file.read_text().splitlines()]


async def test_a_person_asked_by_one_replica_may_answer_another_and_once(site: Site, key: str) -> None:
    async with (
        site.client(key=key, replica=0, elicitation_callback=_unused) as one,
        site.client(key=key, replica=1, elicitation_callback=_unused) as other,
    ):
        state = await asked(one, "here-and-there")
        results: list[Any] = [await answered(client, state, "here-and-there") for client in (other, one, other)]
    assert [result.is_error for result in results] == [False, True, True]
    assert "used already" in text(results[1])
    assert traces(site).count("here-and-there") == 1


async def test_through_nginx_the_client_notices_nothing(site: Site, key: str) -> None:
    async with site.client(key=key, elicitation_callback=_unused) as client:
        for number in range(4):
            assert text(await client.call_tool("destroy", {"number": f"all-{number}"})) == f"all-{number}"
    assert sorted(line for line in traces(site) if line.startswith("all-")) == [f"all-{n}" for n in range(4)]


# --- subscriptions ---


async def test_a_change_on_one_replica_is_heard_by_clients_of_the_other(site: Site, key: str) -> None:
    heard: list[Any] = []
    async with (
        site.client(key=key, replica=0) as there,
        site.client(key=key) as listener,
        site.client(key=key, replica=1) as elsewhere,
        listener.listen(resource_subscriptions=["notes://a"]) as through_nginx,
        there.listen(resource_subscriptions=["notes://a"]) as direct,
    ):

        async def hear(subscription: Any) -> None:
            async for event in subscription:
                heard.append(event)
                return

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hear, through_nginx)
                tasks.start_soon(hear, direct)
                await elsewhere.call_tool("change", {"uri": "notes://b"})
                await elsewhere.call_tool("change", {"uri": "notes://a"})
    assert [event.uri for event in heard if isinstance(event, ResourceUpdated)] == ["notes://a"] * 2


# --- events ---


def test_every_replica_serves_the_events_of_all_page_by_page(site: Site) -> None:
    for number in range(6):
        assert wrong_key(site, number % 2, f"198.51.100.{number}") == 401
    seen: list[Any] = []
    before = ""
    with site.http() as client:
        wait_until(lambda: client.get("/security/events?limit=1000").text.count('"identifier":"198.51.100.') == 6)
        while True:
            page = client.get(f"/security/events?event=authentication_failed&limit=4{before}").json()
            assert len(page["events"]) <= 4
            seen += page["events"]
            if page["next"] is None:
                break
            before = f"&before={page['next']}"
    ours = [event for event in seen if event["identifier"].startswith("198.51.100.")]
    assert sorted(event["identifier"] for event in ours) == [f"198.51.100.{number}" for number in range(6)]
    places = [tuple(map(int, event["id"].split("-"))) for event in seen]
    assert places == sorted(set(places), reverse=True), "newest first, none twice"
    assert len({event["replica"] for event in ours}) == 2
    assert page["totalEvents"] >= 6


@pytest.mark.parametrize("place", ["0-0", "00-000", "1-", "-1", "1-99999999999"])
def test_a_place_that_redis_would_not_take_is_refused_and_redis_is_still_there(site: Site, place: str) -> None:
    with site.http() as client:
        assert client.get(f"/security/events?before={place}").status_code == 400
        assert client.get("/security/events?before=0-1").json()["events"] == []
        assert "degraded" not in client.get("/readyz").text


# --- what is kept ---


def test_nothing_in_redis_opens_a_door(site: Site, key: str) -> None:
    """What is there is named after the project, and no secret is in it, whatever the tests before have done."""
    import redis

    with site.http(key) as client:
        assert client.post("/mcp", json=call("who")).status_code == 200
    with redis.Redis.from_url(site.redis.url, decode_responses=True) as connection:
        names = list(connection.scan_iter(count=1000))
        kept = json.dumps([_value(connection, name) for name in names]) + json.dumps(names)
    assert {name.partition(":")[0] for name in names} == {SERVER.name}
    assert caller(key) in kept
    secrets = [site.key, *KEYS, *(record.sha256 for record in KEYS.values())]
    assert [secret for secret in secrets if secret in kept or secret[-20:] in kept] == []


def _value(connection: Any, name: str) -> Any:
    kind = connection.type(name)
    if kind == "stream":
        return connection.xrange(name)
    if kind == "hash":
        return connection.hgetall(name)
    return sorted(connection.smembers(name)) if kind == "set" else connection.get(name)
