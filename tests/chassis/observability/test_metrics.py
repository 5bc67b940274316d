"""Metrics: what is counted, under which labels, and over several processes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from mcp_chassis import counters
from mcp_chassis.telemetry import metrics

from ..attacks.wire import key_of, send
from ..support.project import PROJECT
from ..support.running import RunningServer, free_port, running_server, server_process, wait_until

HTTP, TOOLS = "mcp_http_request_duration_seconds_count", "mcp_tool_call_duration_seconds_count"


def value(name: str, **labels: str) -> float:
    """Return one number of this process; what was never counted is 0."""
    return REGISTRY.get_sample_value(name, labels) or 0


def told(text: str) -> dict[tuple[str, str], float]:
    """Return what a scrape says: samples by their name and labels."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_and_calls_are_counted_by_route_and_by_outcome(server: RunningServer) -> None:
    def counted() -> list[float]:
        return [
            value(HTTP, route="/mcp", status="200"),
            value(TOOLS, tool="hello_world", outcome="ok"),
            value(TOOLS, tool="hello_world", outcome="rejected"),
            value("mcp_authentications_total", result="accepted"),
            value("mcp_rate_limit_decisions_total", limiter="requests", decision="allowed"),
            value("mcp_security_events_total", event="input_validation_failed", severity="medium"),
        ]

    before = counted()
    server.call("hello_world", {"name": "World"})
    server.call("hello_world", {"name": "$(id)"})
    # An answer arrives before its request has been counted.
    wait_until(lambda: [now - then for now, then in zip(counted(), before, strict=True)] == [2, 1, 1, 2, 2, 1])


@pytest.mark.parametrize(
    ("headers", "result"),
    [([], "absent"), ([("Authorization", "Bearer a")], "invalid"), ([("Authorization", "Bearer a")] * 2, "ambiguous")],
)
def test_a_credential_is_counted_by_what_it_was(
    server: RunningServer, headers: list[tuple[str, str]], result: str
) -> None:
    before = value("mcp_authentications_total", result=result)
    server.get("/health", headers=headers)
    assert value("mcp_authentications_total", result=result) == before + 1


def test_refusals_of_the_limiters_are_counted() -> None:
    def counted() -> list[float]:
        return [
            value("mcp_rate_limit_decisions_total", limiter="requests", decision="refused"),
            value("mcp_rate_limit_decisions_total", limiter="wrong_credentials", decision="refused"),
            value("mcp_authentications_total", result="limited"),
        ]

    before = counted()
    wrong = {"Authorization": "Bearer wrong"}
    with running_server(max_requests_per_minute=2, max_failed_auth_per_minute=1) as server:
        statuses = [server.get("/health").status_code for _ in range(3)]
        statuses += [server.get("/health", headers=wrong).status_code for _ in range(2)]
    assert statuses == [200, 200, 429, 401, 429]
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 1]


def test_what_a_client_makes_up_does_not_become_a_label(server: RunningServer) -> None:
    """Otherwise any client could fill the memory of this server, and of Prometheus."""
    before = value(HTTP, route=counters.OTHER, status="401"), value(TOOLS, tool=counters.OTHER, outcome="unknown")
    for number in range(20):
        server.get(f"/made-up-{number}")
        server.call(f"made-up-{number}", {})
    assert value(TOOLS, tool=counters.OTHER, outcome="unknown") == before[1] + 20
    wait_until(lambda: value(HTTP, route=counters.OTHER, status="401") == before[0] + 20)
    assert "made-up" not in server.get("/metrics", headers=server.credentials).text


def test_open_connections_are_counted(server: RunningServer) -> None:
    before = value("mcp_open_connections")
    with httpx2.Client(trust_env=False) as client:
        client.get(f"{server.url}/livez")
        wait_until(lambda: value("mcp_open_connections") == before + 1)
    wait_until(lambda: value("mcp_open_connections") == before)


@pytest.mark.anyio
async def test_open_streams_are_counted(server: RunningServer) -> None:
    before = value("mcp_open_streams", kind="listen")
    async with server.client() as client, client.listen(tools_list_changed=True):
        wait_until(lambda: value("mcp_open_streams", kind="listen") == before + 1)
    wait_until(lambda: value("mcp_open_streams", kind="listen") == before)


def test_metrics_need_a_credential_even_where_nothing_else_does(server: RunningServer) -> None:
    assert server.get("/metrics").status_code == 401
    with running_server(enable_auth=False) as open_to_all:
        assert open_to_all.get("/metrics").status_code == 401
        answer = open_to_all.get("/metrics", headers=open_to_all.credentials)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert ("mcp_open_connections", "{}") in told(answer.text)


def test_metrics_can_have_a_port_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    with server_process(tmp_path, metrics_port=str(port)) as server:
        answer = httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
        assert answer.status_code == 200
        assert ("mcp_open_connections", "{}") in told(answer.text)
        assert send(server.running, "GET", "/metrics", [key_of(server.running)]).status == 404


def test_a_metrics_port_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    with (
        running_server() as server,
        pytest.raises(AssertionError, match=r"METRICS_PORT: another program listens on"),
        server_process(tmp_path, metrics_port=str(server.port)),
    ):
        pass


def test_processes_tell_their_sum_and_a_killed_one_has_no_connections(tmp_path: Path) -> None:
    numbers, one, two = (tmp_path / name for name in ("numbers", "one", "two"))
    for directory in (numbers, one, two):
        directory.mkdir()

    def scraped() -> dict[tuple[str, str], float]:
        return told(send(first.running, "GET", "/metrics", [key_of(first.running)]).text)

    shared: Any = {"prometheus_multiproc_dir": str(numbers)}
    requests = (HTTP, json.dumps({"route": "/livez", "status": "200"}, sort_keys=True))
    connections = ("mcp_open_connections", "{}")
    with server_process(one, **shared) as first, server_process(two, **shared) as second:
        for server in (first, second):
            for _ in range(3):
                send(server.running, "GET", "/livez")
        wait_until(lambda: scraped()[requests] == 6)
        with httpx2.Client(trust_env=False) as client:
            client.get(f"{second.running.url}/livez")
            wait_until(lambda: scraped()[connections] == 2)  # this one, and the one that asks
            second.process.kill()
            second.process.wait()
        wait_until(lambda: scraped()[connections] == 1)
        assert scraped()[requests] >= 6


def test_a_label_is_looked_up_once() -> None:
    """The library's `labels()` takes a lock and makes texts of its arguments; that is not for every request."""
    program = """
import sys
from prometheus_client.metrics import MetricWrapperBase
calls, labels = [], MetricWrapperBase.labels
MetricWrapperBase.labels = lambda self, *values: calls.append(values) or labels(self, *values)
from mcp_chassis import counters
from mcp_chassis.telemetry import metrics
calls.clear()
for _ in range(100):
    metrics.count_http_request("/mcp", 200, 0.1)
print(len(calls))
"""
    source = Path(metrics.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_every_metric_is_in_the_documentation_with_its_labels() -> None:
    page = (PROJECT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(mcp_\w+)` \| (.*?) ?\| ", page, re.M)
    }
    metrics.count_http_request("/mcp", 200, 0.1)
    metrics.count_tool_call("hello_world", "ok", 0.1)
    metrics.count_audit_lines(0, written=True)
    told = {
        family.name + ("_total" if family.type == "counter" else ""): set(family.samples[0].labels) - {"le"}
        for family in REGISTRY.collect()
        if family.name.startswith("mcp_")
    }
    assert rows == told
