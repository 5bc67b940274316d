"""docs/deployments.md names what was run; a file of tests with containers that it does not name fails here."""

import re

from baking import ROOT

TABLE = (ROOT / "docs/deployments.md").read_text(encoding="utf-8")


def test_table_of_deployments_names_the_tests_that_there_are() -> None:
    named = re.findall(r"\| `([\w/]+\.py)` \|$", TABLE, re.MULTILINE)
    there = {f"containers/{path.name}" for path in (ROOT / "tests/containers").glob("test_*.py")}
    assert there <= set(named)
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_table_says_on_demand_of_the_tests_that_ci_leaves_out() -> None:
    rows = {name: when for when, name in re.findall(r"\| (CI|On demand) \| `(containers/\w+\.py)` \|$", TABLE, re.M)}
    assert len(rows) == len(list((ROOT / "tests/containers").glob("test_*.py")))
    for name, when in rows.items():
        text = (ROOT / "tests" / name).read_text(encoding="utf-8")
        assert ("ON_DEMAND]" in text) == (when == "On demand"), name
