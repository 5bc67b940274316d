"""The picture in the README shows what is really printed."""

import os
import re
from pathlib import Path

import picture
import pytest

import dev

URL = f"http://{dev.HOST}:{dev.DEFAULT_PORT}"


@pytest.mark.skipif(os.name == "nt", reason="the picture is of a POSIX shell; what Windows prints differs")
def test_every_line_is_what_dev_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = dev.Checkout(Path(dev.__file__).parent)
    monkeypatch.chdir(checkout.root)
    dev.announce(URL, checkout.projects / "secure-mcp-server", {"API_KEY": "not shown"})
    announced = capsys.readouterr().out.splitlines()
    env = checkout.projects / "secure-mcp-server" / ".env"
    lines = picture.read()
    assert lines[0] == "$ python dev.py serve"
    first = lines.index(announced[1]) - 1
    assert lines[first : first + len(announced)] == announced
    _, with_key, answer, _, without_key, refusal = lines[first + len(announced) :]
    assert with_key == f"$ {dev.curl_line(URL, env)}"
    assert without_key == f"$ {dev.curl_line(URL, None)}"
    assert "Hello, World!" in answer
    assert '"status":401' in refusal


def test_nothing_in_it_looks_like_a_key() -> None:
    assert not re.search(r"(?<![\w./-])[\w-]{40,}", picture.PICTURE.read_text(encoding="utf-8"))


def test_a_long_line_is_wrapped_and_read_back(tmp_path: Path) -> None:
    lines = ["$ a & b < c", "", "x" * 250, "  two  spaces"]
    drawn = tmp_path / "drawn.svg"
    drawn.write_text(picture.draw(lines), encoding="utf-8")
    assert picture.read(drawn) == lines
