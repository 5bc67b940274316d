"""The four attacks that SECURITY.md shows how to try by hand."""

import json

import pytest

from secure_mcp_server.tools import TOOLS

from ..support.running import RunningServer, running_server
from .wire import JSON, Answer, Header, key_of, send

ANY: Header = ("Accept", "*/*")  # what curl sends
greets = pytest.mark.skipif("hello_world" not in {tool.__name__ for tool in TOOLS}, reason="hello_world is gone")


def post(server: RunningServer, method: str, params: dict[str, object], *headers: Header) -> Answer:
    """Send one message, as `curl --json` does."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return send(server, "POST", "/mcp", [ANY, JSON, *headers], json.dumps(message).encode())


def test_recipe_1_an_invalid_key_is_refused_and_noted(server: RunningServer) -> None:
    answer = post(server, "tools/list", {}, ("Authorization", "Bearer invalid-key"))
    assert answer.status == 401
    assert (answer.header("WWW-Authenticate") or "").startswith("Bearer ")
    assert server.events("authentication_failed")[0]["severity"] == "high"


def test_recipe_2_of_150_requests_in_a_row_those_beyond_the_limit_are_refused() -> None:
    with running_server(max_requests_per_minute=100) as limited:
        answers = [send(limited, "GET", "/health") for _ in range(150)]
        statuses = [answer.status for answer in answers]
        assert statuses[:100] == [200] * 100
        assert statuses.count(429) > 40
        assert answers[-1].header("Retry-After") or answers[-2].header("Retry-After")
        assert {send(limited, "GET", path).status for path in ("/livez", "/readyz")} == {200}


@greets
def test_recipe_3_a_command_for_a_name_is_refused_and_noted(server: RunningServer) -> None:
    attack = post(server, "tools/call", {"name": "hello_world", "arguments": {"name": "$(rm -rf /)"}}, key_of(server))
    assert attack.status == 200
    assert attack.json()["result"]["isError"] is True
    assert "rm -rf" not in attack.text
    event = server.events("input_validation_failed")[0]
    assert (event["severity"], event["details"]["tool"]) == ("medium", "hello_world")
    fine = post(server, "tools/call", {"name": "hello_world", "arguments": {"name": "Hello World"}}, key_of(server))
    assert fine.json()["result"]["isError"] is False
    assert "Hello World" in fine.text


def test_recipe_4_the_events_are_shown_to_the_keys_owner_only(server: RunningServer) -> None:
    post(server, "tools/list", {}, ("Authorization", "Bearer invalid-key"))
    assert send(server, "GET", "/security/events").status == 401
    events = send(server, "GET", "/security/events", [key_of(server)]).json()
    assert events.keys() == {"events", "totalEvents"}
    assert events["totalEvents"] >= len(events["events"]) >= 1
