"""`attack` on the command line."""

import sys

import pytest

from mcp_chassis import cli
from mcp_chassis.testing.attacks import table
from mcp_chassis.testing.attacks.run import Campaign, Finding, Subject
from secure_mcp_server.server import SERVER

from .attacks import test_the_attacks_find


@pytest.mark.parametrize("code", [0, 1])
def test_the_command_runs_the_attacks(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "attack_tools", lambda _: code)
    assert cli.run(SERVER, ["attack"]) == code


def test_it_prints_a_table_and_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def attack(_: Campaign, subject: Subject) -> list[Finding]:
        if subject.name != "read_file":
            return []
        return [Finding("attack succeeded", subject, "path", "path", "/etc/passwd", "a secret")]

    monkeypatch.setattr(Campaign, "__enter__", lambda campaign: campaign)
    monkeypatch.setattr(Campaign, "__exit__", lambda *_: None)
    monkeypatch.setattr(Campaign, "attack", attack)
    assert table.attack_tools(test_the_attacks_find.SERVER) == 1
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
