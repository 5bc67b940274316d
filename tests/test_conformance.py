"""The official conformance suite against servers as their owners start them: a process, the key from `.env`.

What needs fixtures is in `tests/chassis/conformance`.
"""

from pathlib import Path

import pytest
from chassis.conformance.suite import run_suite
from chassis.support.node import find_node
from test_baked_projects import Answers, installed, serving

pytestmark = pytest.mark.slow

# What a server has to do whatever its tools are.
SCENARIOS = {
    "2025-11-25": {"server-initialize", "ping", "tools-list", "dns-rebinding-protection"},
    "2026-07-28": {
        *("tools-list", "dns-rebinding-protection", "caching", "http-header-validation"),
        *("sep-2164-resource-not-found", "input-required-result-unsupported-methods"),
    },
}
ANSWERS = [{}, {"auth": "none", "examples": "no", "deployment": "none"}]


@pytest.mark.parametrize("answers", ANSWERS, ids=str)
def test_the_official_suite_passes_against_a_served_project(
    answers: Answers, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    project = installed(tmp_path, **answers)
    node = find_node(request.config)
    with serving(project, ENABLE_RATE_LIMIT="false", MAX_FAILED_AUTH_PER_MINUTE="10000") as server:
        for revision, names in SCENARIOS.items():
            results = tmp_path / revision
            results.mkdir()
            outcomes = run_suite(node, f"{server.url}/mcp", project.key, results, revision=revision)
            assert {name: outcomes[name].findings for name in names if not outcomes[name].proven} == {}
