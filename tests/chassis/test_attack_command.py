"""`attack` on the command line."""

import sys

import pytest

from mcp_chassis import cli
from mcp_chassis.testing.attacks import run
from mcp_chassis.testing.attacks.run import Campaign, Finding, Subject
from secure_mcp_server.server import SERVER

from .attacks import order_desk, test_the_attacks_find


@pytest.mark.parametrize("code", [0, 1])
def test_the_command_runs_the_attacks(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "attack_tools", lambda *_, **__: code)
    assert cli.run(SERVER, ["attack"]) == code


def test_without_the_extra_dev_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("mcp_chassis.testing.attacks")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hypothesis", None)  # as if it were not installed
    assert cli.run(SERVER, ["attack"]) == 2
    assert capsys.readouterr().err == "attack: needs hypothesis. Install the extra: pip install -e '.[dev]'\n"


def test_it_prints_a_table_and_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def attack(campaign: Campaign, subject: Subject) -> list[Finding]:
        if subject.name != "read_file":
            return []
        campaign.calls[subject] = 3, 40
        return [Finding("attack succeeded", subject, "path", "path", "/etc/passwd", "a secret")]

    monkeypatch.setattr(Campaign, "__enter__", lambda campaign: campaign)
    monkeypatch.setattr(Campaign, "__exit__", lambda *_: None)
    monkeypatch.setattr(Campaign, "attack", attack)
    assert run.attack_tools(test_the_attacks_find.SERVER) == 1
    said = capsys.readouterr()
    heading, first, *others = said.out.splitlines()
    assert heading.split() == ["SUBJECT", "CALLS", "THAT", "SUCCEEDED", "FINDINGS"]
    assert first.split() == ["tool", "read_file", "3", "of", "40", "1"]
    assert others[0].split() == ["tool", "save_file", "0", "of", "0", "-"]
    assert "argument path: attack succeeded (path): a secret" in said.out
    assert "safe way: open files through SafeRoot" in said.out
    assert said.err == "", "the progress bar is for terminals"


def test_on_a_terminal_a_bar_grows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run._progress(1, 3, "tool read_file")
    run._progress(3, 3, "")
    said = capsys.readouterr().err
    assert "[##########                    ] 1/3 tool read_file" in said
    assert said.endswith(f"[{'#' * 30}] 3/3 \n")


@pytest.mark.parametrize(("allow_unproved", "code"), [(False, 1), (True, 0)])
def test_a_tool_that_no_call_got_through_to_fails_unless_allowed(
    allow_unproved: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def attack(_: Campaign, subject: Subject) -> list[Finding]:
        return [Finding("not proved", subject, "", "valid arguments", "''", "no call got through, of 40")]

    monkeypatch.setattr(Campaign, "__enter__", lambda campaign: campaign)
    monkeypatch.setattr(Campaign, "__exit__", lambda *_: None)
    monkeypatch.setattr(Campaign, "attack", attack)
    assert run.attack_tools(test_the_attacks_find.SERVER, allow_unproved=allow_unproved) == code
    assert ("not proved" in capsys.readouterr().out) is not allow_unproved


@pytest.mark.slow
def test_a_fixture_of_the_team_lets_calls_through() -> None:
    found = {}
    for fixture in ("", order_desk.__name__):
        with Campaign(order_desk.SERVER, fixture) as campaign:
            findings = {subject.name: campaign.attack(subject) for subject in campaign.subjects}
            found[fixture] = {name: [one.kind for one in some] for name, some in findings.items()}
            calls = {subject.name: succeeded for subject, (succeeded, _) in campaign.calls.items()}
    assert found[""] == {"show_order": ["not proved"], "call_home": ["not proved"]}
    assert found[order_desk.__name__] == {"show_order": [], "call_home": []}
    assert calls["show_order"] > 1, "its limit of calls does not hold here"
    assert calls["call_home"] == 0
