"""The scorecard says what the tests said."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "scorecard.py"
SECURITY = """# Security
## Guessing
| Defence | Proof |
|---|---|
| Keys hold | `tests/test_a.py::test_good` |
| Doors hold | `tests/test_a.py::test_bad`, `tests/test_a.py::test_good` |
| Walls hold | `tests/test_a.py::test_of_many` |
| Nobody looks | no test |
| Gone | `tests/test_a.py::test_gone` |
"""
TESTS = """import pytest

def test_good(): pass
def test_bad(): assert False

@pytest.mark.parametrize("n", [1, 2, 3])
def test_of_many(n): assert n != 2
"""


def score(tmp_path: Path, security: str) -> tuple[int, str]:
    project = tmp_path / "project"
    (project / "tests").mkdir(parents=True)
    (project / "SECURITY.md").write_text(security, encoding="utf-8")
    (project / "tests" / "test_a.py").write_text(TESTS, encoding="utf-8")
    result = tmp_path / "card.md"
    command = [sys.executable, str(SCRIPT), str(project), "--quick", "--to", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, result.read_text(encoding="utf-8") if result.exists() else done.stderr


def test_a_promise_that_is_not_kept_shows_and_fails(tmp_path: Path) -> None:
    code, card = score(tmp_path, SECURITY.replace("| Gone | `tests/test_a.py::test_gone` |\n", ""))
    assert code == 1
    assert "3 promises, 1 of 3 tests passed" in card
    assert "| Keys hold | `test_a.py::test_good` | passed |" in card
    assert "| Doors hold | `test_a.py::test_bad`<br>`test_a.py::test_good` | failure<br>passed |" in card
    assert "| Walls hold | `test_a.py::test_of_many` | failure |" in card, "one of many is enough"
    assert "Nobody looks" not in card


def test_a_test_that_does_not_exist_is_not_a_pass(tmp_path: Path) -> None:
    code, card = score(tmp_path, SECURITY)
    assert code == 1
    assert "not run" in card


def test_all_is_well(tmp_path: Path) -> None:
    code, card = score(tmp_path, "# Security\n| Keys hold | `tests/test_a.py::test_good` |\n")
    assert code == 0
    assert "1 promises, 1 of 1 tests passed" in card
