"""A project follows its template: made by an older tag with cruft, changed by its team, and then updated for real.

The older tag is this template with some things as they might have been; the newer one is this template as it is.
One more project was made by the last version in which the chassis and the team's code were one package.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from baking import QUESTIONS, TEMPLATE, bake, files
from mcp.types import TextResourceContents
from test_baked_projects import PYTEST, Answers, Project, client, install, serving, text_of
from test_repository import ROOT, tracked

import dev
from mcp_chassis.rooms import OFFERS, Offer

pytestmark = pytest.mark.slow

SLUG, PACKAGE = "secure-mcp-server", "secure_mcp_server"
SOURCE = f"src/{PACKAGE}"
CHASSIS = f"src/{dev.CHASSIS}"
OLD, NEW = "v1.0.0", "v2.0.0"
LAST_ONE_PACKAGE = "097d7061312da10d6348f884d73512aec5bfa8f3"
"""The last commit of this template that made one package of the chassis and the team's code."""

# What the older tag has in place of what the present one has: file of the project, present text, older text.
CHANGED = [
    (f"{CHASSIS}/approval/lock.py", '"""', '"""An older first line.\n\n'),
    (f"{SOURCE}/tools/hello.py", "Greet a person by name.", "Greet a person by a name of old."),
    (f"{SOURCE}/tools/__init__.py", '"""', '"""An older list.\n\n'),
    (f"_variants/examples-full/{SOURCE}/tools/__init__.py", '"""', '"""An older list.\n\n'),
    ("SECURITY.md", "# Security", "# Security of old"),
    ("compose.yaml", "services:", "# An older comment.\nservices:"),
    ("README.md", "## Update", "## Updates, of old"),
    ("tests/tools/test_hello.py", '"""', '"""An older test.\n\n'),
    ("tools.lock.json", "Greet a person by name.", "Greet a person by a name of old."),
    ("pyproject.toml", "structlog>=", "structlog>=24.0,>="),
]
ONLY_NEW = ["docs/outgoing-values.md", f"{CHASSIS}/{dev.MANIFEST}"]
ONLY_OLD = [f"{CHASSIS}/middleware/of_old.py", "docs/of-old.md", "deploy/kubernetes/of-old.yaml"]

TEAM_TOOL = '''"""The team's own tool."""

from typing import Annotated

from pydantic import Field

from mcp_chassis import tool


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
        people = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        return {**os.environ, **people, **settings, "COOKIECUTTER_CONFIG": str(self.path / "cookiecutter.yaml")}

    def configure(self) -> None:
        """Keep what cookiecutter stores for a user here."""
        places = {"cookiecutters_dir": str(self.path / "cloned"), "replay_dir": str(self.path / "replay")}
        (self.path / "cookiecutter.yaml").write_text(json.dumps(places), encoding="utf-8")

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
    shop.configure()
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
    lock_tools(shop, project)
    shop.commit("Our own tool", project)


# --- the tests --------------------------------------------------------------------------------------------------------


def test_a_customised_project_is_updated_without_a_conflict(workshop: Workshop, tmp_path: Path) -> None:
    project = workshop.create(examples="full")
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
    fresh = bake(tmp_path / "fresh", overwrite=False, hooks=True, examples="full")
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
    edited = f"{CHASSIS}/approval/lock.py"
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


@pytest.fixture(scope="module")
def without_options(workshop: Workshop) -> Path:
    """A project without optional packages, to be copied."""
    return workshop.create(observability="none", deployment="none", ci="none")


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.package)
def test_an_optional_package_comes_with_the_line_that_the_server_prints(
    offer: Offer, without_options: Path, workshop: Workshop, tmp_path: Path
) -> None:
    """Without one its settings are refused; the refusal names this line."""
    project = shutil.copytree(without_options, tmp_path / without_options.name)
    key = (project / ".env").read_bytes()
    (line,) = re.findall(r"cruft update (--variables-to-update) '(.+)'", offer.remedy("", ""))
    workshop.update(project, *line)
    assert conflicts(workshop, project) == []
    assert (project / "src/mcp_chassis" / offer.package.replace(".", "/")).is_dir()
    assert (project / ".env").read_bytes() == key
    needed = {"OAUTH_ISSUER": "https://login.example.com"} if offer.question == "auth" else {}
    done = run_own(workshop, project, "chassis", "verify", **needed)
    assert done.returncode == 0, done.stderr
    assert offer.package in done.stdout.strip().rpartition("optional packages: ")[2].split(", ")


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


# What a team does by hand to come from one package to two: the imports of its own tools, as UPGRADING.md says.
IMPORTS = [
    ("from ..policy import", "from mcp_chassis import"),
    ("from ..security import", "from mcp_chassis.sinks import"),
    ("from .policy import", "from mcp_chassis import"),
    ("from .security import", "from mcp_chassis.sinks import"),
]
# Tests of examples that the old version called the team's. Their way to start a server is gone: they are to be removed.
LEFT_BY_THE_TESTS_OF_EXAMPLES = {"tests/attacks/test_example_tools.py"}
# Of a resource and a prompt that this version no longer has; the project keeps both.
TESTS_OF_KEPT_EXAMPLES = {"tests/test_prompts.py", "tests/test_resources.py"}
OWN_RESOURCE = '''

@resource("sums://small", title="Small sums")
def sums() -> str:
    """Return what can be added."""
    return "numbers up to 1000"
'''


@pytest.fixture(scope="module")
def migration(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The history of this template up to its last version with one package, and then this template as it is."""
    return history(tmp_path_factory.mktemp("migration"), LAST_ONE_PACKAGE)


def history(path: Path, old: str) -> Workshop:
    """Return the history of this template up to a tag or commit, and then this template as it is."""
    known = subprocess.run(["git", "cat-file", "-e", f"{old}^{{commit}}"], cwd=ROOT, capture_output=True, check=False)
    if known.returncode:
        reason = f"the history does not reach {old[:7]}: git fetch --unshallow --tags"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    shop = Workshop(path)
    shop.configure()
    shop.git("clone", "--quiet", "--no-checkout", str(ROOT), str(shop.template), cwd=shop.path)
    shop.git("checkout", "--quiet", "-B", "main", old, cwd=shop.template)
    if tags := shop.git("tag", cwd=shop.template).split():
        shop.git("tag", "--delete", *tags, cwd=shop.template)
    shop.git("tag", OLD, cwd=shop.template)
    shop.git("rm", "--quiet", "-r", ".", cwd=shop.template)
    lay(shop.template)
    shop.commit("Newer", shop.template)
    shop.git("tag", NEW, cwd=shop.template)
    return shop


def test_a_project_of_one_package_becomes_one_of_two(migration: Workshop, tmp_path: Path) -> None:
    """The key and the tools survive; the imports of the team's own tools are the only edit that is left to do."""
    project = migration.create()
    source = project / SOURCE
    (source / "tools/add.py").write_text(TEAM_TOOL.replace("from mcp_chassis", "from ..policy"), encoding="utf-8")
    (project / "tests/tools/test_add.py").write_text(TEAM_TEST, encoding="utf-8")
    replace(source / "tools/__init__.py", "from .words import count_words", "from .add import add")
    replace(source / "tools/__init__.py", "count_words", "add")
    (source / "tools/words.py").unlink()
    (project / "tests/tools/test_words.py").unlink()
    replace(source / "resources.py", "\n\nRESOURCES = (about,)", f"{OWN_RESOURCE}\n\nRESOURCES = (about, sums)")
    replace(project / "README.md", "# Secure MCP Server", "# Adding, as a service")
    lock_tools(migration, project)
    migration.commit("Our own tool and resource", project)
    key = (project / ".env").read_bytes()
    own = {path: path.read_bytes() for path in [*source.glob("tools/*.py"), source / "resources.py"]}

    migration.update(project, "--variables-to-update", json.dumps({"examples": "full"}))

    assert conflicts(migration, project) == []
    assert (project / ".env").read_bytes() == key
    assert {path: path.read_bytes() for path in own} == own
    assert (project / "README.md").read_text(encoding="utf-8").startswith("# Adding, as a service")
    fresh = bake(tmp_path / "fresh", overwrite=False, hooks=True, examples="full")
    assert {name for name in files(project) if name.startswith("src/")} - {f"{SOURCE}/tools/add.py"} == {
        name for name in files(fresh) if name.startswith("src/")
    } - {f"{SOURCE}/tools/{name}.py" for name in ("words", "orders", "sales")}  # new tools do not come in
    assert {
        name for name in files(project) - files(fresh) if name.startswith("tests/") and "add" not in name
    } == LEFT_BY_THE_TESTS_OF_EXAMPLES | TESTS_OF_KEPT_EXAMPLES

    correct_imports(source)
    done = run_own(migration, project, "chassis", "verify")
    assert done.stdout.startswith("unmodified chassis 1.0.0"), done.stdout + done.stderr
    lock_tools(migration, project)

    made = Project(project, install(project, tmp_path), {})
    with serving(made) as server:
        assert anyio.run(call_add, server.url, made.key) == ("4", "numbers up to 1000")


def correct_imports(source: Path) -> None:
    """What is done by hand, as UPGRADING.md says."""
    for path in [*source.glob("tools/*.py"), source / "resources.py", source / "prompts.py"]:
        text = path.read_text(encoding="utf-8")
        for old, new in IMPORTS:
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")


def releases() -> list[str]:
    """The tags of this repository, oldest first: what projects may have been made with."""
    command = ["git", "tag", "--list", "v*", "--sort", "version:refname", "--merged", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False).stdout.split()


@pytest.mark.parametrize("old", [LAST_ONE_PACKAGE, *releases()])
def test_a_project_of_every_release_can_be_updated(old: str, tmp_path: Path) -> None:
    shop = history(tmp_path, old)
    project = shop.create()
    source = project / SOURCE
    own = [*source.glob("tools/*.py"), source / "resources.py", source / "prompts.py"]
    key, theirs = (project / ".env").read_bytes(), {path: path.read_bytes() for path in own}
    # The examples of the version with one package are called `full` now: UPGRADING.md.
    answers = ("--variables-to-update", '{"examples": "full"}') if old == LAST_ONE_PACKAGE else ()
    shop.update(project, *answers)
    assert conflicts(shop, project) == []
    assert (project / ".env").read_bytes() == key
    assert {path: path.read_bytes() for path in theirs} == theirs
    if old == LAST_ONE_PACKAGE:
        correct_imports(source)
    lock_tools(shop, project)
    for command in (("chassis", "verify"), ("check",)):
        done = run_own(shop, project, *command)
        assert done.returncode == 0, done.stdout + done.stderr


async def call_add(url: str, key: str) -> tuple[str, str]:
    async with client(url, key, "auto") as connected:
        (content,) = (await connected.read_resource("sums://small")).contents
        assert isinstance(content, TextResourceContents)
        return text_of(await connected.call_tool("add", {"one": 2, "other": 2})), content.text


def run_own(shop: Workshop, project: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the project's own command, as it stands in its directory."""
    return subprocess.run(
        [sys.executable, "-m", PACKAGE, *words],
        cwd=project,
        env={**shop.environment, "PYTHONPATH": "src", **settings},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def lock_tools(shop: Workshop, project: Path) -> None:
    done = run_own(shop, project, "tools", "lock")
    assert done.returncode == 0, done.stderr


def room(project: Path) -> dict[str, bytes]:
    """What belongs to the team: no update changes it, adds to it or takes from it."""
    places = [project / SOURCE, project / "tests"]
    found = [path for place in places for path in place.rglob("*.py")] + [project / "tools.lock.json"]
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in found}


def conflicts(shop: Workshop, project: Path) -> list[str]:
    """The files with conflicts that need a fix by hand."""
    left = [name for name in files(project) if name.endswith((".rej", ".orig"))]
    marked = [path for path in project.rglob("*.*") if path.is_file() and b"\n<<<<<<< " in path.read_bytes()]
    unmerged = shop.git("diff", "--name-only", "--diff-filter=U", cwd=project).split()
    return sorted({*left, *unmerged, *(path.relative_to(project).as_posix() for path in marked)})


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def passes_its_tests(path: Path, tmp_path: Path) -> None:
    project = Project(path, install(path, tmp_path), {})
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *PYTEST,
        "--ignore=tests/attacks",
    )  # test_baked_projects.py has those
    done = subprocess.run(
        command, cwd=path, env=project.environment(), capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout
