"""`serve --workers 2`: one port, two processes, one limit."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_chassis.http.server import listening_socket
from mcp_chassis.settings import EXIT_CONFIG, SettingsError

from .attacks.wire import key_of, send
from .support.redis import running_redis
from .support.running import PACKAGE, ServerProcess, environment, new_secret, server_process, wait_until

SERVE = ("-m", PACKAGE, "serve", "--workers", "2")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="looks for processes in a way that Windows has not")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Two workers, thirty places for each caller and one more a minute."""
    with running_redis() as redis:
        settings = {"redis_url": redis.url, "redis_timeout": "10", "state_secret": new_secret()}
        limit = {"rate_limit_burst": "30", "max_requests_per_minute": "1"}
        with server_process(tmp_path, program=SERVE, **settings, **limit) as running:
            yield running


def workers(server: ServerProcess) -> list[int]:
    """Return the processes that were ever started, in that order."""
    written = server.written().split("\n")[:-1]  # the last may be half written
    # Python itself warns of a coroutine that was not started when the process ended.
    lines = [json.loads(line) for line in written if line.startswith("{")]
    return [line["worker"] for line in lines if line["event"] == "a worker has started"]


def alive(pid: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError) as refusal:
        listening_socket("127.0.0.1", taken.getsockname()[1])
    assert "PORT: another program listens on 127.0.0.1:" in refusal.value.problems[0]


def test_answers_do_not_wait_for_the_client_to_confirm_their_head() -> None:
    with (
        listening_socket("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_two_workers_are_one_server(server: ServerProcess) -> None:
    statuses = [send(server.running, "GET", "/health").status for _ in range(40)]
    assert statuses == [200] * 30 + [429] * 10

    def counted() -> dict[str, float]:
        text = send(server.running, "GET", "/metrics", [key_of(server.running)]).text
        sample = r'mcp_http_request_duration_seconds_count{route="/health",status="(\d+)"} (.+)'
        return {status: float(number) for status, number in re.findall(sample, text)}

    wait_until(lambda: counted() == {"200": 30, "429": 10})  # the sum over both, whichever of them is asked

    victim = workers(server)[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(workers(server)) == 3, seconds=30)
    assert "a worker has ended and is replaced" in server.written()
    assert send(server.running, "GET", "/readyz").status == 200

    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert not any(map(alive, workers(server)))


def test_workers_do_not_outlive_their_parent(server: ServerProcess) -> None:
    assert all(map(alive, workers(server)))
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not any(map(alive, workers(server))), seconds=30)


@pytest.mark.parametrize("option", [{"workers": "2"}, {"replicas": "2"}])
def test_without_redis_there_is_one_process(tmp_path: Path, option: dict[str, str]) -> None:
    variables = environment(api_key=new_secret(), **option)
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, "serve"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == EXIT_CONFIG
    assert "more than 1 needs REDIS_URL" in done.stderr
