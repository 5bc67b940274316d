"""The configuration of pre-commit: its hooks run here as pre-commit would run them, and find what they are for."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from baking import bake


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake(tmp_path_factory.mktemp("hooks"), ci="pre-commit")


def hooks(project: Path) -> dict[str, dict[str, Any]]:
    configuration = yaml.safe_load((project / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = configuration["repos"]
    assert repository["repo"] == "local", "nothing is downloaded that constraints do not cover"
    return {hook["id"]: hook for hook in repository["hooks"]}


def run(project: Path, hook: dict[str, Any], *files: str) -> int:
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(project / "src"),
        "SECRETS_DIR": os.devnull,
    }
    return subprocess.run([*shlex.split(hook["entry"]), *files], cwd=project, env=environment, check=False).returncode


def test_pre_commit_alone_brings_no_workflow(project: Path) -> None:
    assert not (project / ".github").exists()
    assert set(hooks(project)) == {"ruff-check", "ruff-format", "mypy", "keys", "tools"}


def test_the_programs_accept_a_new_project_and_refuse_a_mistake(project: Path) -> None:
    found = hooks(project)
    good, bad = "src/secure_mcp_server/server.py", "src/secure_mcp_server/bad.py"
    (project / bad).write_text("import os\nx =  eval('1')\n", encoding="utf-8")
    try:
        for name in ("ruff-check", "ruff-format"):
            assert run(project, found[name], good) == 0, name
            assert run(project, found[name], bad) != 0, name
    finally:
        (project / bad).unlink()
    assert run(project, found["tools"]) == 0


def test_a_key_is_found_and_nothing_else(project: Path) -> None:
    hook = hooks(project)["keys"]
    key = f"mcp_{'a1' * 5}_{'Zz9' * 16}Q"
    assert re.search(hook["entry"], f"KEY = '{key}'")
    assert re.search(hook["entry"], "-----BEGIN " + "RSA PRIVATE KEY-----")
    for path in (path for path in project.rglob("*") if path.is_file() and path.name != ".env"):
        name = path.relative_to(project).as_posix()
        if not re.search(hook["exclude"], name) and "__pycache__" not in name and "_cache" not in name:
            assert not re.search(hook["entry"], path.read_text(encoding="utf-8", errors="replace")), name
