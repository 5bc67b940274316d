"""The example tools under the attacks on the sinks they use: notes and their paths, git and its arguments."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_chassis.sinks import SafeRoot
from secure_mcp_server.tools import history, notes

from ..support.running import RunningServer
from . import test_paths
from .test_commands import injections
from .test_paths import SECRET, SPELLINGS

place = test_paths.place
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file types")


@pytest.mark.parametrize("path", [path for path in SPELLINGS if path.isprintable()])
def test_the_note_tools_reach_nothing_outside(
    server: RunningServer, place: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(notes, "NOTES", SafeRoot(place / "root"))
    before = sorted(place.rglob("*"))
    for tool, arguments in (("read_note", {"path": path}), ("write_note", {"path": path, "text": "written"})):
        result = server.call(tool, arguments).json()["result"]
        assert result["isError"] is True
        assert SECRET not in str(result)
        assert "root:" not in str(result)
    assert sorted(place.rglob("*")) == before


@posix
def test_absent_and_forbidden_notes_are_answered_alike(
    server: RunningServer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "NOTES", SafeRoot(place / "root"))
    (place / "root" / "link").symlink_to(place / "outside" / "secret")
    (place / "root" / "dangling").symlink_to(place / "outside" / "absent")
    os.mkfifo(place / "root" / "fifo")
    answers = {str(server.call("read_note", {"path": path}).json()["result"]) for path in
               ("absent", "link", "dangling", "fifo", "below", "own/x", "absent/x")}  # fmt: skip
    assert len(answers) == 1
    assert SECRET not in answers.pop()


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def run_git(directory: Path, *arguments: str, stdin: str = "") -> str:
    """Run git as it comes."""
    command = [shutil.which("git") or "git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(
        command, cwd=directory, input=stdin, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one signed commit, which `git_log` looks at."""
    directory = tmp_path / "repository"
    directory.mkdir()
    run_git(directory, "init", "-q", "-b", "main")
    who = "A <a@example.org> 1700000000 +0000"
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----"
    commit = f"tree {run_git(directory, 'write-tree')}\nauthor {who}\ncommitter {who}\n{signature}\n\nFirst\n"
    commit_id = run_git(directory, "hash-object", "-t", "commit", "-w", "--stdin", stdin=commit)
    run_git(directory, "update-ref", "refs/heads/main", commit_id)
    monkeypatch.setattr(history, "REPOSITORY", directory)
    return directory


@needs_git
@pytest.mark.anyio
async def test_git_log_lists_commits(repository: Path) -> None:
    log = await history.git_log()
    assert log.endswith(" 2023-11-14 A: First\n")
    assert await history.git_log("main", 1) == log


@needs_git
def test_no_ref_runs_or_writes_anything(server: RunningServer, repository: Path) -> None:
    marker = repository / "marker"
    before = sorted(repository.rglob("*"))
    for ref in injections(marker):
        assert server.call("git_log", {"ref": ref}).json()["result"]["isError"] is True, ref
    assert sorted(repository.rglob("*")) == before


@needs_git
def test_a_poisoned_repository_runs_nothing(server: RunningServer, repository: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {marker}\n")
    trap.chmod(0o755)
    with (repository / ".git" / "config").open("a") as config:
        config.write(
            f"[core]\n pager = {trap}\n fsmonitor = {trap}\n sshCommand = {trap}\n editor = {trap}\n"
            f"[log]\n showSignature = true\n[gpg]\n program = {trap}\n[pager]\n log = {trap}\n"
            f"[diff]\n external = {trap}\n[alias]\n log = !{trap}\n"
        )
    assert "A: First" in str(server.call("git_log", {}).json())
    assert not marker.exists()
    run_git(repository, "log")  # git as it comes falls into the trap
    assert marker.exists()


@needs_git
def test_the_servers_own_environment_does_not_reach_git(
    server: RunningServer, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert "A: First" in str(server.call("git_log", {}).json())
