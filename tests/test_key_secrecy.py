"""The API key is in `.env` of the project and nowhere else."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from baking import bake, cookiecutter_command, files


def key_of(project: Path) -> str:
    found = re.search(
        r"^API_KEY=(mcp_[A-Za-z0-9_-]{43})$", (project / ".env").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found
    return found[1]


def git(project: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, encoding="utf-8", check=True).stdout


def files_that_hold(secret: str, directory: Path) -> set[str]:
    return {name for name in files(directory) if secret.encode() in (directory / name).read_bytes()}


def test_the_key_is_in_no_other_file_and_not_in_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    for variable in ("TMPDIR", "TEMP", "TMP"):  # where cookiecutter leaves the rendered hooks
        monkeypatch.setenv(variable, str(tmp_path / "temporary"))

    done = cookiecutter_command(tmp_path / "out", "--verbose", user_dir=tmp_path / "user")

    assert done.returncode == 0, done.stderr
    project = tmp_path / "out" / "secure-mcp-server"
    key = key_of(project)
    assert key not in done.stdout + done.stderr
    assert list((tmp_path / "user" / "replay").iterdir())
    assert files_that_hold("create_env", tmp_path / "temporary")  # the rendered hook is really there to look into
    assert files_that_hold(key, tmp_path) == {"out/secure-mcp-server/.env"}


def test_a_debug_log_does_not_hold_the_key(tmp_path: Path) -> None:
    log = tmp_path / "debug.log"

    done = cookiecutter_command(tmp_path / "out", "--debug-file", str(log))

    assert done.returncode == 0, done.stderr
    assert "post_gen_project" in log.read_text(encoding="utf-8")
    assert key_of(tmp_path / "out" / "secure-mcp-server") not in log.read_text(encoding="utf-8")


def test_git_does_not_take_env(tmp_path: Path) -> None:
    project = bake(tmp_path)
    (project / ".env.local").write_text(f"API_KEY={key_of(project)}\n")

    git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "first")

    tracked = set(git(project, "ls-files").splitlines())
    assert {".env.example", "pyproject.toml"} <= tracked
    assert not {".env", ".env.local"} & tracked
    assert key_of(project) not in git(project, "log", "--patch", "--all")


def test_git_takes_every_file_but_env(default_project: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "bare")
    options = ["--git-dir", str(tmp_path / "bare"), "--work-tree", str(default_project)]
    git(default_project, *options, "add", "--all")
    assert files(default_project) - set(git(default_project, *options, "ls-files").splitlines()) == {".env"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes: the directory's access rights decide there")
def test_only_the_owner_can_read_env(default_project: Path) -> None:
    assert (default_project / ".env").stat().st_mode & 0o777 == 0o600


def test_every_project_has_a_key_of_its_own(default_project: Path, tmp_path: Path) -> None:
    assert key_of(bake(tmp_path)) != key_of(default_project)


@pytest.mark.parametrize("edit", [b"", b"# mine\r\nAPI_KEY=another\n"], ids=["as-made", "edited"])
def test_generating_again_keeps_env_byte_for_byte(tmp_path: Path, edit: bytes) -> None:
    project = bake(tmp_path)
    if edit:
        (project / ".env").write_bytes(edit)
    before = (project / ".env").read_bytes()

    bake(tmp_path, overwrite=True, port="9090", log_level="DEBUG")

    assert "PORT=9090" in (project / ".env.example").read_text(encoding="utf-8")
    assert (project / ".env").read_bytes() == before


def test_no_question_and_no_example_holds_a_key(default_project: Path) -> None:
    assert "API_KEY=\n" in (default_project / ".env.example").read_text(encoding="utf-8")
    assert files_that_hold(key_of(default_project), default_project) == {".env"}
