"""The official conformance suite against servers as their owners start them: a process, the key from `.env`.

What needs fixtures is in the projects' own `tests/conformance`, which runs wherever a project runs all of its tests.
"""

import sys
from pathlib import Path

import pytest
from test_baked_projects import PYTEST, Answers, installed, run, serving

pytestmark = pytest.mark.slow

# Put beside the project's own tests, for their way to find and to run the suite.
TEST = """
import os

import pytest

from ..support.node import find_node
from .suite import run_suite

# What a server has to do whatever its tools are.
SCENARIOS = {
    "2025-11-25": {"server-initialize", "ping", "tools-list", "dns-rebinding-protection"},
    "2026-07-28": {
        *("tools-list", "dns-rebinding-protection", "caching", "http-header-validation"),
        *("sep-2164-resource-not-found", "input-required-result-unsupported-methods"),
    },
}


@pytest.mark.parametrize("revision", SCENARIOS)
def test_served(revision, request, tmp_path):
    outcomes = run_suite(find_node(request.config), os.environ["URL"], os.environ["KEY"], tmp_path, revision=revision)
    assert {name: outcomes[name].findings for name in SCENARIOS[revision] if not outcomes[name].proven} == {}
"""
ANSWERS = [{}, {"auth": "none", "examples": "no", "deployment": "none"}]


@pytest.mark.parametrize("answers", ANSWERS, ids=str)
def test_the_official_suite_passes_against_a_served_project(answers: Answers, tmp_path: Path) -> None:
    project = installed(tmp_path, **answers)
    test = project.path / "tests" / "conformance" / "test_served.py"
    test.write_text(TEST, encoding="utf-8")
    with serving(project, ENABLE_RATE_LIMIT="false", MAX_FAILED_AUTH_PER_MINUTE="10000") as server:
        env = project.environment(URL=f"{server.url}/mcp", KEY=project.key)
        report = run(sys.executable, "-m", "pytest", "-q", *PYTEST, test, cwd=project.path, env=env)
    assert "2 passed" in report, report
