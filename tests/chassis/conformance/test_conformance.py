"""The official conformance suite, against the guard with the suite's fixtures and against this project's own server.

Every layer is on but the rate limit, which the suite would exhaust: it sends hundreds of requests within seconds.
"""

from pathlib import Path
from typing import Any

import pytest

from ..support.node import Node, find_node
from ..support.running import RunningServer, running_server
from .fixtures import fixture_server
from .suite import REVISIONS, Excepted, Outcome, problems, read_exceptions, run_suite

LIMITLESS: dict[str, Any] = {"enable_rate_limit": False, "max_failed_auth_per_minute": 10_000}


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Node:
    """A Node.js for the suite."""
    return find_node(request.config)


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")  # the suite asks for all there is
@pytest.mark.parametrize("revision", REVISIONS)
def test_every_scenario_passes_or_is_excepted_for_a_reason(node: Node, revision: str, tmp_path: Path) -> None:
    with running_server(fixture_server(), **LIMITLESS) as server:
        outcomes = run_suite(node, f"{server.url}/mcp", server.key, tmp_path, revision=revision)
        failures = server.events("tool_execution_failed")
    assert [event for event in failures if event["details"]["reason"] == "crashed"] == []
    assert sum(outcome.proven for outcome in outcomes.values()) >= 20
    assert problems(outcomes, [entry for entry in read_exceptions() if entry.revision == revision]) == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_this_projects_own_tools_are_listed_as_the_schema_says(node: Node, revision: str, tmp_path: Path) -> None:
    with running_server(**LIMITLESS) as server:
        url = f"{server.url}/mcp"
        outcomes = run_suite(node, url, server.key, tmp_path, revision=revision, scenario="tools-list")
    assert outcomes == {"tools-list": Outcome(True)}


def test_nothing_is_shown_without_the_credential(node: Node, tmp_path: Path) -> None:
    """Authentication is on in these runs."""
    with running_server(**LIMITLESS) as server:
        url = f"{server.url}/mcp"
        outcomes = run_suite(node, url, "x" * 43, tmp_path, revision="2026-07-28", scenario="tools-list")
        assert server.events("authentication_failed")
    assert not outcomes["tools-list"].proven
    assert "401" in "".join(outcomes["tools-list"].findings)


# --- the list of exceptions -------------------------------------------------------------------------------------------

PASSED, FAILED = Outcome(True), Outcome(False, ("ping: no answer",))
PING = Excepted("2025-11-25", "ping", "no answer", "No one is at home.")


def test_a_failure_that_is_not_excepted_is_a_problem() -> None:
    assert problems({"ping": FAILED}, []) == ["ping does not pass: ping: no answer"]
    assert problems({"ping": FAILED}, [PING]) == []


def test_an_excepted_scenario_that_passes_is_a_problem() -> None:
    assert problems({"ping": PASSED}, [PING]) == ["ping passes: remove it from exceptions.toml"]


def test_an_exception_covers_no_other_failure_than_its_own() -> None:
    crashed = Outcome(False, ("ping: no answer", "ping: the server is gone"))
    assert problems({"ping": crashed}, [PING]) == [
        "ping fails otherwise than exceptions.toml says: ping: the server is gone"
    ]


def test_an_exception_that_matches_nothing_is_a_problem() -> None:
    assert problems({"pong": PASSED}, [PING]) == ["ping is no scenario of the suite: remove it from exceptions.toml"]


def test_an_exception_has_a_reason() -> None:
    silent = Excepted("2025-11-25", "ping", "no answer", " ")
    assert problems({"ping": FAILED}, [silent]) == ["ping has no reason in exceptions.toml: write one"]


def test_exceptions_are_for_revisions_that_are_run() -> None:
    assert {entry.revision for entry in read_exceptions()} <= set(REVISIONS)


def test_the_rate_limit_and_the_penalty_box_are_all_that_is_set_aside() -> None:
    """The settings of these runs are those of any other test server, but for two numbers and a switch."""
    with running_server() as usual, running_server(**LIMITLESS) as server:
        assert changed(usual, server) <= {"port", "api_key", *LIMITLESS}


def changed(one: RunningServer, other: RunningServer) -> set[str]:
    """Return the names of the settings in which two servers differ."""
    mine, theirs = one.settings.model_dump(), other.settings.model_dump()
    return {name for name in mine if mine[name] != theirs[name]}
