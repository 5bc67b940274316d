"""The size of what a team gets. A project that grows past a bound fails here, so that it grows on purpose only."""

import re
from pathlib import Path

import pytest
from baking import bake, files

import dev

# Upper bounds: what there is today, rounded up. A change that makes something smaller lowers them. They rose twice:
# when the chassis got what a team's own part needs (state, settings, claims, handles, pages, upstreams, exact schemas),
# and when it got what real identity providers need and checks of results (schema, secrets, marks of untrusted text).
# The goals: 140 files; the chassis 6,650 lines by default, 9,200 with every optional package, 5,800 at its smallest;
# 1,200 of `testing`; 350 of the team's package; 2,500 of tests.
MAX_FILES = 205
MAX_CHASSIS_LINES = {"default": 12_095, "every": 15_575, "smallest": 11_870}
MAX_TESTING_LINES = 1_276
MAX_TEAM_LINES = 350
MAX_TEST_LINES = 2_500

PROJECTS: dict[str, dict[str, str]] = {
    "default": {},
    "every": dev.EVERY_ROOM,
    "smallest": {
        **{"auth": "none", "rate_limit": "none", "audit_trail": "no", "observability": "none"},
        **{"examples": "no", "deployment": "none", "ci": "none"},
    },
}


def lines(directory: Path, *, without: str = "") -> int:
    """Count the lines of the Python files below a directory, docstrings and comments included."""
    paths = (path for path in directory.rglob("*.py") if not without or without not in path.parts)
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


@pytest.mark.parametrize("name", PROJECTS)
def test_the_chassis_stays_within_its_size(name: str, tmp_path: Path) -> None:
    chassis = bake(tmp_path, overwrite=False, hooks=True, **PROJECTS[name]) / "src" / dev.CHASSIS
    size = lines(chassis, without="testing")
    assert size <= MAX_CHASSIS_LINES[name], f"{size} lines of the chassis: make it smaller again"
    assert size > 1000


def test_a_project_has_few_files(default_project: Path) -> None:
    names = {name for name in files(default_project) if "__pycache__" not in name and name != ".env"}
    assert len(names) <= MAX_FILES, f"{len(names)} files"


def test_the_part_of_the_team_is_small(default_project: Path) -> None:
    assert lines(default_project / "src" / dev.package_of(default_project)) <= MAX_TEAM_LINES
    assert lines(default_project / "tests") <= MAX_TEST_LINES


def test_the_attacks_that_a_project_runs_are_small(default_project: Path) -> None:
    assert lines(default_project / "src" / dev.CHASSIS / "testing") <= MAX_TESTING_LINES


def test_the_bounds_are_near_to_what_there_is(default_project: Path) -> None:
    """A bound far above the size bounds nothing: lower it when the chassis has become smaller."""
    assert lines(default_project / "src" / dev.CHASSIS, without="testing") > MAX_CHASSIS_LINES["default"] - 500


def test_readme_states_the_bounds() -> None:
    readme = (Path(dev.__file__).parent / "README.md").read_text(encoding="utf-8")
    table = [
        int(found.replace(",", "")) for found in re.findall(r"^\|.*\| ([\d,]+) \| [\d,]+ \|$", readme, re.MULTILINE)
    ]
    assert table == [MAX_FILES, *MAX_CHASSIS_LINES.values(), MAX_TESTING_LINES, MAX_TEAM_LINES, MAX_TEST_LINES]
