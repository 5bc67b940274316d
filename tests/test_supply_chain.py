"""What the workflows of a generated project would say of it: run here, with the same programs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from baking import bake

import dev

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
SCRIPTS = Path(sys.executable).parent
WORKFLOW = ".github/workflows/supply-chain.yml"


def run(program: str | Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [str(program), *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def committed(project: Path, into: Path) -> Path:
    """Return a copy of the project in which git knows every file."""
    shutil.copytree(project, into, ignore=shutil.ignore_patterns(*dev.LITTER))
    assert run("git", "init", "-q", cwd=into).returncode == 0
    assert run("git", "add", "-A", cwd=into).returncode == 0
    return into


def secrets_step() -> str:
    jobs = yaml.safe_load((TEMPLATE / WORKFLOW).read_text(encoding="utf-8"))["jobs"]
    (step,) = [step for step in jobs["repository"]["steps"] if step.get("name") == "Look for secrets"]
    return str(step["run"])


@pytest.mark.parametrize("directory", [ROOT, TEMPLATE], ids=["template", "project"])
def test_workflows_have_no_known_weakness(directory: Path) -> None:
    done = run(SCRIPTS / "zizmor", "--offline", "--persona", "pedantic", "--no-progress", ".github", cwd=directory)
    assert done.returncode == 0, done.stdout


def follow_schema(schema: str, *paths: Path) -> None:
    done = run(SCRIPTS / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_workflows_are_as_their_schema_says() -> None:
    follow_schema("github-workflows", *(path for at in (ROOT, TEMPLATE) for path in at.glob(".github/workflows/*")))


@pytest.mark.parametrize(
    ("deployment", "images"),
    [("docker", {"docker", "docker-compose"}), ("kubernetes", {"docker"}), ("none", set())],
)
def test_updates_are_proposed_for_everything_that_is_pinned_and_not_on_their_first_days(
    deployment: str, images: set[str], tmp_path: Path
) -> None:
    project = bake(tmp_path, deployment=deployment)
    file = project / ".github/dependabot.yml"
    follow_schema("dependabot", file)
    updates = yaml.safe_load(file.read_text(encoding="utf-8"))["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions", *images}
    assert (project / "Dockerfile").exists() == ("docker" in images)
    assert (project / "compose.yaml").exists() == ("docker-compose" in images)
    for update in updates:
        assert update["directory"] == "/"
        assert update["cooldown"]["default-days"] >= 7


@pytest.mark.skipif(sys.platform == "win32", reason="the step is for the shell of the workflow's Linux")
def test_a_project_holds_no_secret_and_one_that_does_is_found(default_project: Path, tmp_path: Path) -> None:
    project = committed(default_project, tmp_path / "project")
    clean = run("bash", "-e", "-c", secrets_step(), cwd=project)
    assert clean.returncode == 0, clean.stdout
    shutil.rmtree(project / "src/mcp_chassis")  # it was found to be clean, and is most of what there is to read
    found_by_entropy = {
        "src/key.py": f'API_KEY = "{os.urandom(20).hex()}"\n',
        "README.md": "-----BEGIN " + "PRIVATE KEY-----\n",
    }
    found_by_form = {"tests/test_key.py": f'KEY = "mcp_{"a1" * 5}_{"Zz9" * 16}Q"\n'}
    for planted in (found_by_entropy, found_by_form):
        before = {name: (project / name).read_bytes() if (project / name).exists() else b"" for name in planted}
        for name, text in planted.items():
            (project / name).write_text(text, encoding="utf-8")
        run("git", "add", "-A", cwd=project)
        found = run("bash", "-e", "-c", secrets_step(), cwd=project)
        assert found.returncode != 0
        assert [name for name in planted if name not in found.stdout] == []
        for name, content in before.items():
            (project / name).write_bytes(content)
        run("git", "add", "-A", cwd=project)


def test_the_chassis_has_an_owner_and_the_tools_of_the_team_have_none(default_project: Path) -> None:
    lines = (default_project / ".github/CODEOWNERS").read_text(encoding="utf-8").splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    for pattern, *owners in rules:
        glob = pattern.removeprefix("/").removesuffix("/")
        assert any(default_project.glob(glob)), f"{pattern} matches nothing"
        assert all(re.fullmatch(r"\S+@\S+", owner) for owner in owners)
    owned = {pattern for pattern, *owners in rules if owners}
    team = f"/src/{dev.package_of(default_project)}/"
    assert f"/src/{dev.CHASSIS}/" in owned
    assert f"{team}server.py" in owned
    assert not {team, f"{team}tools/", f"{team}resources.py", f"{team}prompts.py", "/src/"} & owned
