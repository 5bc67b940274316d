"""Colours are for terminals."""

import io

import pytest

from mcp_chassis.cli.terminal import colored


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert colored("OK", "green", Terminal()) == "\x1b[32mOK\x1b[0m"
    assert colored("OK", "green", io.StringIO()) == "OK"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colours_gets_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert colored("OK", "green", Terminal()) == "OK"
