"""A project follows its template: made by an older tag with cruft, changed by its team, and then updated for real.

The older tag is this template with some things as they might have been; the newer one is this template as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from baking import QUESTIONS, TEMPLATE, bake, files
from test_baked_projects import PYTEST, Answers, Project, install
from test_repository import ROOT, tracked

import dev

pytestmark = pytest.mark.slow

SLUG, PACKAGE = "secure-mcp-server", "secure_mcp_server"
SOURCE = f"src/{PACKAGE}"
OLD, NEW = "v1.0.0", "v2.0.0"

# What the older tag has in place of what the present one has: file of the project, present text, older text.
CHANGED = [
    (f"{SOURCE}/policy/lock.py", '"""', '"""An older first line.\n\n'),
    (f"{SOURCE}/tools/hello.py", "Greet somebody by name.", "Greet somebody by a name of old."),
    (f"{SOURCE}/tools/__init__.py", '"""', '"""An older list.\n\n'),
    ("SECURITY.md", "# Security", "# Security of old"),
    ("compose.yaml", "services:", "# An older comment.\nservices:"),
    ("README.md", "## Update", "## Updates, of old"),
    ("tests/tools/test_hello.py", '"""', '"""An older test.\n\n'),
    ("tools.lock.json", "Greet somebody by name.", "Greet somebody by a name of old."),
    ("pyproject.toml", "structlog>=", "structlog>=24.0,>="),
]
ONLY_NEW = ["docs/outgoing-values.md", "tests/test_readme.py"]
ONLY_OLD = [f"{SOURCE}/middleware/of_old.py", "docs/of-old.md", "deploy/kubernetes/of-old.yaml"]

TEAM_TOOL = '''"""The team's own tool."""

from typing import Annotated

from pydantic import Field

from ..policy import tool


@tool(title="Add", read_only=True, open_world=False)
def add(one: Annotated[int, Field(ge=0, le=1000)], other: Annotated[int, Field(ge=0, le=1000)]) -> int:
    """Add two small numbers."""
    return one + other
'''
TEAM_TEST = f'''"""The team's own tool."""

from {PACKAGE}.tools.add import add


def test_two_and_two_are_four() -> None:
    assert add(2, 2) == 4
'''
# Its own test and the example it has no use for.
REMOVED = [f"{SOURCE}/tools/words.py", "tests/tools/test_words.py", "compose.yaml"]


@dataclass(frozen=True)
class Workshop:
    """A directory with the two-tagged template, and an environment in which nothing of the user's counts."""

    path: Path

    @property
    def template(self) -> Path:
        return self.path / "template"

    @property
    def environment(self) -> dict[str, str]:
        people = {f"GIT_{role}_{what}": "nobody" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        return {**os.environ, **people, **settings, "COOKIECUTTER_CONFIG": str(self.path / "cookiecutter.yaml")}

    def run(self, *command: str | Path, cwd: Path) -> str:
        words = [str(word) for word in command]
        done = subprocess.run(
            words, cwd=cwd, env=self.environment, capture_output=True, encoding="utf-8", check=False, timeout=300
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def git(self, *words: str, cwd: Path) -> str:
        return self.run("git", *words, cwd=cwd)

    def commit(self, message: str, cwd: Path) -> None:
        self.git("add", "--all", cwd=cwd)
        self.git("commit", "--quiet", "--message", message, cwd=cwd)

    def create(self, **answers: str) -> Path:
        """Make a project with the older tag, and commit it as its team does."""
        output = self.path / f"made-{len(list(self.path.iterdir()))}"
        words = ("--no-input", "--checkout", OLD, "--output-dir", output, "--extra-context", json.dumps(answers))
        output.mkdir()
        self.run(sys.executable, "-m", "cruft", "create", self.template, *words, cwd=self.path)
        (project,) = output.iterdir()
        self.git("init", "--quiet", "--initial-branch=main", cwd=project)
        self.commit("As generated", project)
        return project

    def update(self, project: Path, *words: str) -> str:
        return self.run(sys.executable, "-m", "cruft", "update", "--skip-apply-ask", *words, cwd=project)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The template in a repository of its own: first as it might have been, then as it is."""
    shop = Workshop(tmp_path_factory.mktemp("workshop"))
    places = {"cookiecutters_dir": str(shop.path / "cloned"), "replay_dir": str(shop.path / "replay")}
    (shop.path / "cookiecutter.yaml").write_text(json.dumps(places), encoding="utf-8")
    shop.template.mkdir()
    shop.git("init", "--quiet", "--initial-branch=main", cwd=shop.template)
    lay(shop.template)
    age(shop.template)
    shop.commit("Older", shop.template)
    shop.git("tag", OLD, cwd=shop.template)
    shop.git("rm", "--quiet", "-r", ".", cwd=shop.template)
    lay(shop.template)
    shop.commit("Newer", shop.template)
    shop.git("tag", NEW, cwd=shop.template)
    return shop


def lay(template: Path) -> None:
    """Copy this template."""
    for name in tracked():
        (template / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, template / name)


def age(template: Path) -> None:
    """Make it older."""
    inner = template / TEMPLATE.name
    for name, present, older in CHANGED:
        replace(inner / in_template(name), present, older)
    for name in ONLY_NEW:
        (inner / in_template(name)).unlink()
    for name in ONLY_OLD:
        (inner / in_template(name)).write_text("# Of old\n", encoding="utf-8")
    questions = template / "cookiecutter.json"
    old = {"question": "deployment", "answers": ["kubernetes"], "files": [ONLY_OLD[-1]]}
    table = [*QUESTIONS["__optional_files"], old]
    questions.write_text(json.dumps({**QUESTIONS, "__optional_files": table}), encoding="utf-8")


def in_template(name: str) -> str:
    return name.replace(PACKAGE, "{{cookiecutter.package_name}}")


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text where it first occurs. It has to occur."""
    text = path.read_text(encoding="utf-8")
    assert old in text, path
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def customise(shop: Workshop, project: Path) -> None:
    """What a team does to its project."""
    tools = project / SOURCE / "tools"
    (tools / "add.py").write_text(TEAM_TOOL, encoding="utf-8")
    (project / "tests/tools/test_add.py").write_text(TEAM_TEST, encoding="utf-8")
    for name in REMOVED:
        (project / name).unlink()
    replace(tools / "__init__.py", "from .words import count_words", "from .add import add")
    replace(tools / "__init__.py", "count_words", "add")
    replace(project / "README.md", "# Secure MCP Server", "# Adding, as a service")
    replace(project / ".env", "MAX_REQUESTS_PER_MINUTE=100\n", "MAX_REQUESTS_PER_MINUTE=7\n")
    lock = (sys.executable, "-m", PACKAGE, "tools", "lock")
    done = subprocess.run(
        lock, cwd=project, env={**shop.environment, "PYTHONPATH": "src"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shop.commit("Our own tool", project)


# --- the tests --------------------------------------------------------------------------------------------------------


def test_a_customised_project_is_updated_without_a_conflict(workshop: Workshop, tmp_path: Path) -> None:
    project = workshop.create()
    customise(workshop, project)
    theirs = room(project)
    key, mode = (project / ".env").read_bytes(), (project / ".env").stat().st_mode
    workshop.update(project)

    assert conflicts(workshop, project) == []
    assert ((project / ".env").read_bytes(), (project / ".env").stat().st_mode) == (key, mode)
    assert room(project) == theirs
    assert not [name for name in (*REMOVED, *ONLY_OLD) if (project / name).exists()]
    readme = (project / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("# Adding, as a service")
    assert "## Updates, of old" not in readme
    # Everything that the team has left alone is as if the project had been made today.
    fresh = bake(tmp_path / "fresh")
    own = {"README.md", ".env", ".cruft.json", *theirs, *REMOVED}
    known = {name for name in files(fresh) | files(project) if not name.startswith(".git/")}
    assert [name for name in sorted(known - own) if content(project / name) != content(fresh / name)] == []
    assert json.loads((project / ".cruft.json").read_text())["commit"] in workshop.git(
        "rev-parse", f"{NEW}^{{commit}}", cwd=workshop.template
    )
    passes_its_tests(project, tmp_path)


@pytest.mark.parametrize(
    "answers", [{"examples": "no", "ci": "none", "deployment": "none"}, {"deployment": "kubernetes"}], ids=str
)
def test_files_that_the_answers_do_not_ask_for_do_not_come_with_an_update(
    answers: Answers, workshop: Workshop, tmp_path: Path
) -> None:
    project = workshop.create(**answers)
    theirs = room(project)
    workshop.update(project)
    assert conflicts(workshop, project) == []
    assert room(project) == theirs
    fresh = bake(tmp_path, overwrite=False, hooks=True, **answers)
    assert {name for name in files(project) if not name.startswith(".git/")} == files(fresh) | {".cruft.json"}


def test_a_conflict_stays_in_the_file_that_the_team_has_edited(workshop: Workshop) -> None:
    project = workshop.create()
    key = (project / ".env").read_bytes()
    edited = f"{SOURCE}/policy/lock.py"
    replace(project / edited, "An older first line.", "Our own first line.")
    workshop.commit("Edit what is not ours", project)
    said = workshop.update(project)
    assert "with conflicts" in said
    assert conflicts(workshop, project) == [edited]
    assert (project / ONLY_NEW[0]).exists()
    assert (project / ".env").read_bytes() == key
    workshop.git("reset", "--hard", "--quiet", cwd=project)  # as UPGRADING.md says
    assert workshop.git("status", "--porcelain", cwd=project) == ""
    assert not (project / ONLY_NEW[0]).exists()


def test_a_project_that_cookiecutter_has_made_can_be_linked_and_updated(workshop: Workshop) -> None:
    project = workshop.create()
    (project / ".cruft.json").unlink()
    workshop.commit("As cookiecutter would have made it", project)
    linking = ("cruft", "link", workshop.template, "--checkout", OLD, "--no-input")
    workshop.run(sys.executable, "-m", *linking, cwd=project)
    workshop.commit("Link", project)
    workshop.update(project)
    assert conflicts(workshop, project) == []
    assert (project / ONLY_NEW[0]).exists()
    assert not (project / ONLY_OLD[0]).exists()


def test_an_answer_can_be_changed_by_an_update(workshop: Workshop) -> None:
    project = workshop.create()
    key = (project / ".env").read_bytes()
    workshop.update(project, "--variables-to-update", json.dumps({"deployment": "none"}))
    assert conflicts(workshop, project) == []
    assert not (project / "Dockerfile").exists()
    assert not (project / "compose.yaml").exists()
    assert (project / ".env").read_bytes() == key


def test_what_cruft_stores_holds_no_secret(workshop: Workshop) -> None:
    project = workshop.create(trusted_origins="https://app.example.com")
    key = dev.read_env(project / ".env")["API_KEY"]
    for after in ("creation", "an update"):
        stored = json.loads((project / ".cruft.json").read_text(encoding="utf-8"))
        assert {name for name in stored["context"]["cookiecutter"] if not name.startswith("_")} == {
            name for name in QUESTIONS if not name.startswith("_")
        }, after
        holding = [path for path in workshop.path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
        assert holding == [project / ".env"], after
        if after == "creation":
            workshop.update(project)
            workshop.commit("Update", project)
    assert ".env" not in workshop.git("ls-files", cwd=project).split()


def room(project: Path) -> dict[str, bytes]:
    """What belongs to the team: no update changes it, adds to it or takes from it."""
    places = [project / SOURCE / "tools", project / "tests/tools"]
    names = [f"{SOURCE}/resources.py", f"{SOURCE}/prompts.py", "tools.lock.json"]
    found = [path for place in places for path in place.rglob("*.py")] + [project / name for name in names]
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in found}


def conflicts(shop: Workshop, project: Path) -> list[str]:
    """The files that somebody would have to mend by hand."""
    left = [name for name in files(project) if name.endswith((".rej", ".orig"))]
    marked = [path for path in project.rglob("*.*") if path.is_file() and b"\n<<<<<<< " in path.read_bytes()]
    unmerged = shop.git("diff", "--name-only", "--diff-filter=U", cwd=project).split()
    return sorted({*left, *unmerged, *(path.relative_to(project).as_posix() for path in marked)})


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def passes_its_tests(path: Path, tmp_path: Path) -> None:
    """All but what installs programs or lasts: the suites of whole directories run for every baked project."""
    project = Project(path, install(path, tmp_path), {})
    which = [*sorted(path.glob("tests/test_*.py")), "tests/tools", "tests/attacks/test_tool_lock.py"]
    command = (sys.executable, "-m", "pytest", "-q", *PYTEST, *map(str, which), "tests/attacks/test_every_tool.py")
    done = subprocess.run(
        command, cwd=path, env=project.environment(), capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout
