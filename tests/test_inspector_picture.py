"""The picture of the MCP Inspector is complete and shown; the script that takes it stops what it starts."""

import os
import re
import sys
from pathlib import Path

import inspector_picture as script
import pytest

import dev

ROOT = Path(dev.__file__).parent

# Answers every command, as a browser would that was given descriptors 3 and 4.
BROWSER = f"""#!{sys.executable}
import json, os, sys
with open(3, "rb") as commands, open(4, "wb", buffering=0) as messages:
    text = b""
    while byte := commands.read(1):
        text += byte
        if byte == b"\\0":
            number = json.loads(text[:-1])["id"]
            result = {{"targetId": "t", "sessionId": "s", "pid": os.getpid(), "options": sys.argv[1:]}}
            for message in ({{"method": "an event"}}, {{"id": number, "result": result}}):
                messages.write(json.dumps(message).encode() + b"\\0")
            text = b""
"""

POSIX = pytest.mark.skipif(os.name == "nt", reason="the script is for Linux and macOS")


def test_the_picture_is_a_png_of_the_declared_size() -> None:
    content = script.PICTURE.read_bytes()
    assert script.size_of(content) == (script.WIDTH, script.HEIGHT)
    assert len(content) <= script.MAX_BYTES
    assert content.endswith(b"IEND\xaeB`\x82"), "it is complete"


def test_the_readme_shows_the_picture_with_an_alternative_text() -> None:
    name = re.escape(script.PICTURE.relative_to(ROOT).as_posix())
    (text,) = re.findall(rf"!\[([^\]]+)\]\({name}\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert "Inspector" in text
    assert "Hello, World!" in text


def test_another_file_is_no_png() -> None:
    with pytest.raises(dev.Failure, match="not a PNG"):
        script.size_of(b"GIF89a")


@POSIX
@pytest.mark.parametrize("present", [(), ("chromium",)], ids=["no Chromium", "no npm"])
def test_a_missing_program_is_named(
    present: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path) if present else "")
    for name in present:
        (tmp_path / name).touch(0o755)
    monkeypatch.setattr(script, "PICTURE", tmp_path / "inspector.png")
    assert script.main() == 1
    assert capsys.readouterr().err == f"{script.NPM_IS_MISSING if present else script.BROWSER_IS_MISSING}\n"
    assert not script.PICTURE.exists()


@pytest.mark.parametrize("secret", ["the-key", "the-token", "x" * 40])
def test_a_page_that_shows_a_secret_is_refused(secret: str) -> None:
    script.refuse_secrets("Hello, World!", ("the-key", "the-token"))
    with pytest.raises(dev.Failure, match="no picture was taken"):
        script.refuse_secrets(f"Authorization: Bearer {secret}", ("the-key", "the-token"))


def has_ended(pid: int) -> bool:
    """Return whether there is no such process, not even one that was not waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@POSIX
def test_a_program_is_stopped_when_the_block_fails(tmp_path: Path) -> None:
    code = "import os, time; print('starting'); print('pid', os.getpid(), flush=True); time.sleep(1000)"
    lines = []

    def fail() -> None:
        with script.running([sys.executable, "-c", code], "^pid", 60, tmp_path) as line:
            lines.append(line)
            raise dev.Failure("in the block")

    with pytest.raises(dev.Failure, match="in the block"):
        fail()
    assert has_ended(int(lines[0].removeprefix("pid ")))


@POSIX
@pytest.mark.parametrize(("end", "seconds"), [("sys.exit('no disk')", 60), ("time.sleep(1000)", 0.2)])
def test_a_program_that_does_not_start_is_an_error(end: str, seconds: float, tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"import sys, time; {end}"]
    with (
        pytest.raises(dev.Failure, match="did not start:\n" + ("no disk" if seconds == 60 else "")),
        script.running(command, "^ready", seconds, tmp_path),
    ):
        pytest.fail("it has printed nothing")


@POSIX
@pytest.mark.parametrize("user", [0, 1000])
def test_the_browser_is_stopped_and_has_its_sandbox_unless_it_runs_as_root(
    user: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    browser = tmp_path / "chromium"
    browser.write_text(BROWSER, encoding="utf-8")
    browser.chmod(0o755)
    with script.chromium(str(browser), tmp_path / "profile") as page:
        answer = page.command("Page.enable")
        assert not has_ended(answer["pid"])
    assert has_ended(answer["pid"])
    assert f"--user-data-dir={tmp_path / 'profile'}" in answer["options"]
    assert ("--no-sandbox" in answer["options"]) == (user == 0)
