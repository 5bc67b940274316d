"""docs/deployments.md names what was run; a file of tests with containers that it does not name fails here."""

import re

from baking import ROOT

TABLE = (ROOT / "docs/deployments.md").read_text(encoding="utf-8")


def test_table_of_deployments_names_the_tests_that_there_are() -> None:
    named = re.findall(r"\| `([\w/]+\.py)` \|$", TABLE, re.MULTILINE)
    there = {f"containers/{path.name}" for path in (ROOT / "tests/containers").glob("test_*.py")}
    assert there <= set(named)
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_every_row_runs_in_ci() -> None:
    rows = re.findall(r"\| (\w+) \| `[\w/]+\.py` \|$", TABLE, re.MULTILINE)
    assert rows
    assert set(rows) == {"CI"}
    assert "export CONTAINER_TESTS=all" in (ROOT / ".ci/run").read_text(encoding="utf-8")
