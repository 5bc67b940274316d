"""Mutation tests: a fault that no test notices is found, one that is noticed is counted, and the page is current."""

import os
from pathlib import Path

import mutation
import pytest
from mutation import CHASSIS, LISTED, PAGE, ROOMS, Mutant, Room, Score, mutants

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="each fault gets a forked process"),
    # Python 3.12 warns of it in the worker processes of pytest, which have threads.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]

MODULE = """LIMIT = 10


def is_allowed(number: int | None) -> bool:
    return number <= LIMIT
"""
WEAK = """from planted import is_allowed

def test_small_is_allowed(): assert is_allowed(1)
def test_large_is_not(): assert not is_allowed(100)
"""
STRONG = WEAK + "def test_the_limit_is_ten(): assert (is_allowed(10), is_allowed(11)) == (True, False)\n"


def planted(directory: Path, tests: str) -> dict[str, tuple[Room, ...]]:
    (directory / "planted.py").write_text(MODULE, encoding="utf-8")
    (directory / "test_planted.py").write_text(tests, encoding="utf-8")
    return {"planted": (Room((str(directory / "planted.py"),), (str(directory / "test_planted.py"),)),)}


def test_with_tests_that_notice_every_fault_all_are_killed(tmp_path: Path) -> None:
    score = mutation.run(planted(tmp_path, STRONG), seed=1, seconds=60)["planted"]
    assert (score.killed, score.survivors) == (score.possible, [])
    assert score.killed >= 4


def test_a_planted_survivor_is_shown_as_a_patch_and_ends_with_1_until_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "mutation.toml"
    monkeypatch.setattr(mutation, "ROOMS", planted(tmp_path, WEAK))
    monkeypatch.setattr(mutation, "LISTED", listed)
    monkeypatch.setattr(mutation, "PAGE", tmp_path / "mutation.md")
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "warm_up", lambda: None)
    assert mutation.main(["planted"]) == 1
    printed = capsys.readouterr().out
    assert "\n-LIMIT = 10\n+LIMIT = 11\n" in printed
    assert "planted: 1 of " in printed, "large numbers are refused: only the opposite comparison is noticed"
    assert (tmp_path / "planted.py").read_text(encoding="utf-8") == MODULE, "no file is changed"
    entries = [("LIMIT = 10", "*"), ("return number <= LIMIT", "*")]
    text = [
        f'[[survivor]]\nmodule = "planted.py"\nwas = "{was}"\nnow = "{now}"\nreason = "x"\n' for was, now in entries
    ]
    listed.write_text("\n".join(text), encoding="utf-8")
    assert mutation.main(["planted", "--record"]) == 0
    assert "| planted | " in (tmp_path / "mutation.md").read_text(encoding="utf-8")


def test_the_seed_decides_the_sample_and_the_time_ends_it(tmp_path: Path) -> None:
    rooms = planted(tmp_path, STRONG)
    assert mutation.run(rooms, seed=1, seconds=0)["planted"] == Score(
        len(list(mutants(tmp_path / "planted.py"))), 0, 0, []
    )


def test_annotations_and_arguments_of_decorators_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text("@wraps(on=True)\ndef f(a: int | None, *, b: int = 1) -> int | None: ...\n", encoding="utf-8")
    assert {mutant.now.partition("=")[0] for mutant in mutants(path)} <= {
        "def f(a: int | None, *, b: int ",  # another default
        "",  # without the decorator
        "def f(a: int | None, *, b: int = 1) -> int | None: ...",
    }


@pytest.mark.parametrize("parameters", ["a, *, b=1", "*, b=1", "\n    a,\n    *,\n    b=1,\n"])
def test_the_star_of_a_list_of_parameters_is_left_out(tmp_path: Path, parameters: str) -> None:
    path = tmp_path / "planted.py"
    path.write_text(f"def f({parameters}): ...\n", encoding="utf-8")
    changed = [mutant.now for mutant in mutants(path)]
    assert len(changed) == 2, "another default"
    assert not any("/" in line for line in changed)


def test_every_module_and_test_of_the_table_exists() -> None:
    parts = [part for room in ROOMS.values() for part in room]
    assert all((CHASSIS / module).is_file() for part in parts for module in part.modules)
    assert all(
        (mutation.ROOT / "tests" / "chassis" / test.partition("::")[0]).is_file()
        for part in parts
        for test in part.tests
    )


def test_every_listed_survivor_is_a_line_of_its_module_with_a_reason() -> None:
    listed = mutation.listed_survivors()
    assert LISTED.is_file()
    for (module, was, now), reason in listed.items():
        lines = [line.strip() for line in (CHASSIS / module).read_text(encoding="utf-8").splitlines()]
        assert set(map(str.strip, was.splitlines())) <= set(lines), (module, was)
        assert was != now
        assert len(reason) > 20, (module, was)


def test_the_page_lists_the_survivors() -> None:
    assert "\n".join(mutation.survivors_table(mutation.listed_survivors())) in PAGE.read_text(encoding="utf-8"), (
        "run `python dev.py mutate --record` again"
    )


def test_a_mutant_is_recognised_where_lines_have_moved() -> None:
    mutant = Mutant(CHASSIS / "limits" / "slots.py", "", "a = 1", "a = 2")
    assert mutant.id == ("limits/slots.py", "a = 1", "a = 2")
    assert mutation.is_listed(mutant, {("limits/slots.py", "a = 1", "*"): ""})
    assert not mutation.is_listed(mutant, {("limits/slots.py", "a = 1", "a = 3"): ""})
