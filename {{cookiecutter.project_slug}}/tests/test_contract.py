"""What the server promises on the wire, in short: run this after every upgrade of a dependency.

The chassis has its own, much longer tests in the template's repository; docs/promises.md names what they prove.
"""

import json
import signal
import sys
import time
from pathlib import Path

import httpx2
import pytest

from mcp_chassis.testing.process import server_process
from mcp_chassis.testing.running import RunningServer, running_server, text

from {{ cookiecutter.package_name }}.server import SERVER

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
PACKAGE = SERVER.package


def hello(server: RunningServer, name: str) -> httpx2.Response:
    """Call the tool `hello_world`."""
    return server.call("hello_world", {"name": name})


greets = pytest.mark.skipif(
    "hello_world" not in {tool.__name__ for tool in SERVER.tools}, reason="hello_world was removed from the tools"
)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_lists_the_tools_in_both_protocol_eras(server: RunningServer, mode: str) -> None:
    async with server.client(mode) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
    assert listed == {tool.__name__ for tool in SERVER.tools}


def test_a_call_without_a_key_is_401_with_a_challenge(server: RunningServer) -> None:
    answer = server.post(LIST, headers={})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_a_wrong_key_is_401_and_an_event(server: RunningServer) -> None:
    assert server.post(LIST, headers={"Authorization": "Bearer invalid-key"}).status_code == 401
    assert server.events("authentication_failed")[0]["severity"] == "high"


def test_two_authorization_headers_are_400(server: RunningServer) -> None:
    twice = [("Authorization", f"Bearer {server.key}")] * 2
    assert server.post(LIST, headers=twice).status_code == 400


def test_an_unknown_origin_is_403(server: RunningServer) -> None:
    answer = server.post(LIST, headers=server.credentials | {"Origin": "https://evil.example"})
    assert answer.status_code == 403


def test_an_unknown_host_is_421(server: RunningServer) -> None:
    assert server.post(LIST, headers=server.credentials | {"Host": "evil.example"}).status_code == 421


def test_a_body_over_the_limit_is_413(server: RunningServer) -> None:
    assert server.post("x" * server.settings.max_body_bytes).status_code == 413


def test_a_body_that_is_not_strict_json_is_400(server: RunningServer) -> None:
    headers = server.credentials | {"Content-Type": "application/json"}
    for body in (b'{"id": 1, "id": 2}', b'{"id": NaN}', b"[", b"\xff"):
        answer = httpx2.post(server.url + "/mcp", content=body, headers=headers, trust_env=False)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] in {-32700, -32600}


def test_150_requests_in_a_row_are_cut_at_the_limit() -> None:
    with running_server(SERVER, max_requests_per_minute=100) as limited:
        statuses = [limited.get("/health").status_code for _ in range(150)]
        assert statuses[:100] == [200] * 100
        assert statuses.count(429) > 40
        assert limited.get("/livez").status_code == 200, "probes are never limited"


@greets
def test_a_command_for_a_name_is_rejected_and_an_event(server: RunningServer) -> None:
    result = hello(server, "$(rm -rf /)").json()["result"]
    assert result["isError"] is True
    assert "rm -rf" not in json.dumps(result)
    assert server.events("input_validation_failed")[0]["details"]["tool"] == "hello_world"
    assert hello(server, "Hello World").json()["result"]["isError"] is False


def test_security_events_need_the_key(server: RunningServer) -> None:
    assert server.get("/security/events").status_code == 401
    assert server.get("/security/events", headers=server.credentials).json().keys() == {"events", "totalEvents"}


def test_broken_http_is_400_and_the_connection_ends(server: RunningServer) -> None:
    assert server.raw(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_answers_are_not_cached_and_not_run_by_a_browser(server: RunningServer) -> None:
    headers = server.get("/health").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


@pytest.mark.anyio
async def test_a_client_on_stdio_calls_without_a_key(tmp_path: Path) -> None:
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    from mcp_chassis.testing.process import environment

    parameters = StdioServerParameters(
        command=sys.executable, args=["-P", "-m", PACKAGE, "stdio"], env=environment(), cwd=tmp_path
    )
    async with Client(stdio_client(parameters)) as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == {tool.__name__ for tool in SERVER.tools}
        if "hello_world" in {tool.name for tool in tools}:
            assert text(await client.call_tool("hello_world", {"name": "Hello World"})) == "Hello, Hello World!"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_sigterm_ends_the_server_with_0(tmp_path: Path) -> None:
    with server_process(tmp_path, program=("-m", PACKAGE, "serve")) as server:
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        assert time.monotonic() - started < 15
    assert server.running.key not in server.written()
