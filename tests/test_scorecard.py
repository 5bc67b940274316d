"""The scorecard shows the results of the tests, whatever they are."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "scorecard.py"
SECURITY = """# Security
## Guessing
| Promise | Id |
|---|---|
| Keys hold | GUE-01 |
#% if cookiecutter.auth == "oauth"
| Doors hold | GUE-02 |
#% endif
| Walls hold | GUE-03 |
| No id, no promise | none |
"""
PROMISES = """GUE-01 = ["tests/chassis/test_a.py::test_good"]
GUE-02 = ["tests/chassis/test_a.py::test_bad", "tests/chassis/test_a.py::test_good"]
GUE-03 = ["tests/chassis/test_a.py::test_of_many"]

[without_server]
"tests/chassis/test_a.py" = ["test_good"]
"""
MUTATION = "| Room | Possible |\n|---|---|\n| http | 9 | 4 | 3 | 1 | 0 |\n| all | 90 | 40 | 38 | 2 | 0 |\n"
TESTS = """import pytest

def test_good(): pass
def test_bad(): assert False

@pytest.mark.parametrize("n", [1, 2, 3])
def test_of_many(n): assert n != 2
"""


def score(tmp_path: Path, security: str, promises: str) -> tuple[int, str, str]:
    """Return the exit code, the card and what was printed."""
    root, project = tmp_path / "root", tmp_path / "project"
    files = {
        root / "{{cookiecutter.project_slug}}" / "docs" / "promises.md": security,
        root / "tests" / "promises.toml": promises,
        root / "tests" / "chassis" / "test_a.py": TESTS,
        root / "docs" / "mutation.md": MUTATION,
        # As a real one: it knows no marker of this repository.
        project / "pytest.ini": "[pytest]\naddopts = --strict-markers --strict-config\n",
        project / "tests" / "test_b.py": "def test_own(): pass\ndef test_wrong(): assert False\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    result = tmp_path / "card.md"
    command = [sys.executable, str(SCRIPT), str(project), "--root", str(root), "--quick", "--to", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, result.read_text(encoding="utf-8") if result.exists() else done.stderr, done.stdout


def test_a_promise_that_is_not_kept_is_shown_and_fails(tmp_path: Path) -> None:
    code, card, printed = score(tmp_path, SECURITY, PROMISES)
    assert code == 1
    assert "3 promises, 1 of 3 tests passed" in card
    assert "38 of 40 faults were noticed, of 90 possible; 2 survive with a reason and 0 without" in card
    assert card.count("## Guessing") == 1
    assert "| GUE-01 | Keys hold | `test_a.py::test_good` | passed |" in card
    assert "| GUE-02 | Doors hold | `test_a.py::test_bad`<br>`test_a.py::test_good` | failure<br>passed |" in card
    assert "| GUE-03 | Walls hold | `test_a.py::test_of_many` | failure |" in card, "one of many is enough"
    assert "No id" not in card
    assert "tests/chassis/test_a.py::test_bad: failure" in printed


def test_a_test_of_the_project_runs_in_the_project(tmp_path: Path) -> None:
    security = "# Security\n| Tools hold | GUE-01 |\n| Others do not | GUE-02 |\n"
    promises = """GUE-01 = ["project:tests/test_b.py::test_own"]\nGUE-02 = ["project:tests/test_b.py::test_wrong"]\n"""
    code, card, _ = score(tmp_path, security, promises)
    assert code == 1
    assert "| GUE-01 | Tools hold | `project:tests/test_b.py::test_own` | passed |" in card
    assert "| GUE-02 | Others do not | `project:tests/test_b.py::test_wrong` | failure |" in card


def test_a_test_that_does_not_exist_is_not_a_pass(tmp_path: Path) -> None:
    code, card, _ = score(tmp_path, SECURITY, PROMISES.replace("test_of_many", "test_gone"))
    assert code == 1
    assert "| `test_a.py::test_gone` | not run |" in card


def test_a_promise_without_a_test_fails(tmp_path: Path) -> None:
    security = "# Security\n| Keys hold | GUE-01 |\n| Gates hold | GUE-09 |\n"
    code, card, printed = score(tmp_path, security, PROMISES)
    assert code == 1
    assert "| GUE-09 | Gates hold | none | no test |" in card
    assert "GUE-09: tests/promises.toml names no test" in printed


def test_a_card_without_a_failure_exits_with_0(tmp_path: Path) -> None:
    code, card, _ = score(tmp_path, "# Security\n| Keys hold | GUE-01 |\n", PROMISES)
    assert code == 0
    assert "1 promises, 1 of 1 tests passed" in card
