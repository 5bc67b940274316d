"""`attack` on the command line: it takes its attacks from the checkout, because what is deployed holds none."""

import sys
from pathlib import Path

import pytest

from mcp_chassis import cli
from mcp_chassis.settings import EXIT_CONFIG

from .attacks.engine import table
from .attacks.engine.run import Campaign, Finding, Subject

PROJECT = Path(__file__).parents[1]
MODULE = f"{__package__}.attacks.test_the_attacks_find"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())


def test_without_a_checkout_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["attack"]) == EXIT_CONFIG
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "There is no tests/attacks/engine here. Run `attack` in the project's checkout, with the extra `dev`."
    ]


@pytest.mark.parametrize("code", [0, 1])
def test_in_a_checkout_it_runs_the_attacks_of_the_tests(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(table, "attack_tools", lambda: code)
    assert cli.main(["attack"]) == code


def test_what_is_installed_holds_no_attack() -> None:
    package = Path(cli.__file__).parent
    assert not [path for path in package.rglob("*.py") if "canary-link" in path.read_text(encoding="utf-8")]


def test_it_prints_a_table_and_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def attack(_: Campaign, subject: Subject) -> list[Finding]:
        if subject.name != "read_file":
            return []
        return [Finding("attack succeeded", subject, "path", "path", "/etc/passwd", "a secret")]

    monkeypatch.setattr(Campaign, "__enter__", lambda campaign: campaign)
    monkeypatch.setattr(Campaign, "__exit__", lambda *_: None)
    monkeypatch.setattr(Campaign, "attack", attack)
    assert table.attack_tools(MODULE) == 1
    said = capsys.readouterr()
    heading, first, *others = said.out.splitlines()
    assert heading.split() == ["SUBJECT", "FINDINGS"]
    assert first.split() == ["tool", "read_file", "1"]
    assert others[0].split() == ["tool", "save_file", "-"]
    assert "argument path: attack succeeded (path): a secret" in said.out
    assert "safe way: open files through SafeRoot" in said.out
    assert said.err == "", "the progress bar is for terminals"


def test_on_a_terminal_a_bar_grows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    table._progress(1, 3, "tool read_file")
    table._progress(3, 3, "")
    said = capsys.readouterr().err
    assert "[##########                    ] 1/3 tool read_file" in said
    assert said.endswith(f"[{'#' * 30}] 3/3 \n")
