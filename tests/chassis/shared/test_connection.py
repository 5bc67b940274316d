"""The connection to Redis: soon or not at all, back by itself, with TLS and a password, under the project's name."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from mcp_chassis import cli
from mcp_chassis.replicas import connection
from mcp_chassis.replicas.connection import RedisUnavailable, SharedRedis

from ..support.callers import eventually
from ..support.certificates import Authority
from ..support.redis import running_redis
from ..support.running import free_port

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected(url: str, *, seconds: float = 5) -> AsyncIterator[SharedRedis]:
    """Open a connection that is kept going, and close it."""
    redis = SharedRedis(url, project="project", timeout=seconds)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(redis.keep, anyio.lowlevel.checkpoint)
        try:
            yield redis
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await redis.close()


async def ping(redis: SharedRedis) -> Any:
    return await redis.ask(lambda client: client.ping())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_HEARTBEAT", 0.05)


async def test_a_redis_that_comes_back_is_used_again_by_itself() -> None:
    with running_redis() as server:
        async with connected(server.url) as redis:
            assert await ping(redis)
            server.kill()
            with pytest.raises(RedisUnavailable):
                await ping(redis)
            assert redis.is_unavailable
            assert len(redis.problems()) == 1
            server.start()
            await eventually(lambda: not redis.is_unavailable, seconds=10)
            assert await ping(redis)
            assert (redis.problems(), redis.recoveries) == ([], 1)


async def test_a_redis_that_takes_no_writes_is_unavailable_until_it_does() -> None:
    with running_redis() as server:
        async with connected(server.url) as redis:
            await redis.client.config_set("maxmemory", "1")  # with `noeviction`, as it is by default
            with pytest.raises(RedisUnavailable):
                await redis.ask(lambda client: client.set("project:a", 1))
            recoveries = redis.recoveries
            await anyio.sleep(0.5)  # ten heartbeats
            assert redis.is_unavailable
            assert redis.recoveries == recoveries, "a full Redis has been taken for one that is back"
            await redis.client.config_set("maxmemory", "0")
            await eventually(lambda: not redis.is_unavailable, seconds=10)


async def _wrong_pipeline(client: Any) -> Any:
    async with client.pipeline() as pipeline:
        return await pipeline.xadd("project:a", {"secret": 1}).execute()


async def test_a_question_that_redis_refuses_is_no_outage_for_all_others() -> None:
    """Such as a key of another type: a caller that can cause one could switch off every shared limit."""
    with running_redis() as server:
        async with connected(server.url) as redis:
            await redis.client.set("project:a", "text")
            with capture_logs() as logged:
                for _ in range(3):
                    with pytest.raises(RedisUnavailable):
                        await redis.ask(lambda client: client.xadd("project:a", {"secret": 1}))
                    with pytest.raises(RedisUnavailable):
                        await redis.ask(_wrong_pipeline)
                    assert not redis.is_unavailable
                    assert await ping(redis)
            assert [line["cause"] for line in logged] == ["WRONGTYPE Operation against a key holding"]


async def test_a_redis_without_its_copies_is_unavailable() -> None:
    """It answers with the same class of error as to a wrong question."""
    with running_redis() as server:
        async with connected(server.url) as redis:
            await redis.client.config_set("min-replicas-to-write", "1")
            with pytest.raises(RedisUnavailable):
                await redis.ask(lambda client: client.set("project:a", 1))
            assert redis.is_unavailable
            await redis.client.config_set("min-replicas-to-write", "0")
            await eventually(lambda: not redis.is_unavailable, seconds=10)


async def test_while_it_hangs_one_question_waits_and_no_other() -> None:
    with running_redis() as server:
        async with connected(server.url, seconds=0.5) as redis:
            await eventually(lambda: not redis.is_unavailable)
            server.hang()
            waits = []
            for _ in range(200):
                started = time.perf_counter()
                with pytest.raises(RedisUnavailable):
                    await ping(redis)
                waits.append(time.perf_counter() - started)
            assert sum(waits) < 3
            server.go_on()
            await eventually(lambda: not redis.is_unavailable, seconds=10)


async def test_tls_and_a_password_in_the_url(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server_context("localhost")
    (tmp_path / "authority.pem").write_bytes(authority.pem)
    certificate, port = str(tmp_path / "localhost.pem"), free_port()
    tls = ("--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", certificate)
    trust = ("--tls-ca-cert-file", str(tmp_path / "authority.pem"), "--tls-auth-clients", "no")
    with running_redis("--port", "0", *tls, *trust, "--requirepass", "p w", wait_for=port):
        url = f"rediss://:p%20w@localhost:{port}/3?ssl_ca_certs={tmp_path / 'authority.pem'}"
        async with connected(url) as redis:
            assert await ping(redis)
            assert redis.channel("changes") == "project:3:changes"
        for wrong in (url.replace("p%20w", "wrong"), url.split("?", maxsplit=1)[0], url.replace("rediss:", "redis:")):
            async with connected(wrong) as refused:
                with pytest.raises(RedisUnavailable):
                    await ping(refused)


def test_without_redis_url_the_client_need_not_be_installed() -> None:
    source = Path(cli.__file__).parents[2]
    script = """
import sys
sys.modules["redis"] = None
from mcp_chassis import Service
from mcp_chassis.app import create_app
from mcp_chassis.settings import load_settings
create_app(load_settings(_env_file=None, api_key="k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"), Service(module="none"))
"""
    environment = os.environ | {"PYTHONPATH": str(source)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
