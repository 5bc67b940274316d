"""The repository itself: what must never be committed, what workflows may do, and that the documents tell the truth."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from baking import bake, load_hook
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dev
from mcp_chassis.rooms import OFFERS

ROOT = Path(dev.__file__).parent
TEMPLATE = dev.Checkout(ROOT).template
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "UPGRADING.md", "SECURITY.md", "AGENTS.md")
WORKFLOWS = (ROOT / ".github/workflows/test.yml", TEMPLATE / ".github/workflows/ci.yml")
ALL_WORKFLOWS = tuple(path for place in (ROOT, TEMPLATE) for path in sorted((place / ".github/workflows").iterdir()))
SCORECARD = ROOT / ".github/workflows/scorecard.yml"
PICTURES = {"docs/inspector.png"}
"""The only files that are no text. None is part of a project."""


@cache
def tracked() -> tuple[str, ...]:
    """What is in the repository, or would be with the next `git add`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:  # a copy without its history, such as a downloaded archive
        return tuple(dev.files_below(ROOT))
    return tuple(name for name in done.stdout.split("\0") if name and (ROOT / name).is_file())


def text_files() -> list[str]:
    return [name for name in tracked() if name not in PICTURES]


def texts() -> dict[str, str]:
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in text_files()}


# --- what must not be committed ---------------------------------------------------------------------------------------


def test_no_secret_file_and_no_lock_file_is_tracked() -> None:
    names = {Path(name).name for name in tracked()}
    assert "cookiecutter.json" in names  # the list is not empty for some other reason
    assert not names & {".env", "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", ".cruft.json"}
    assert not {name for name in names if name.endswith((".pem", ".key", ".p12")) or name.startswith("pylock.")}


def test_no_key_is_tracked() -> None:
    private_key = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}")
    assigned = re.compile(
        r"^[ \t]*(?:export )?(?:API_KEY|[A-Z_]*(?:SECRET|TOKEN|PASSWORD))[ \t]*[=:][ \t]*[\w-]{32,}$", re.M
    )
    found = {name for name, text in texts().items() if private_key.search(text) or assigned.search(text)}
    assert not found
    assert assigned.search("API_KEY=" + 43 * "k")
    assert private_key.search("-----BEGIN " + "PRIVATE KEY-----\n" + 64 * "A")


def test_no_package_index_is_named() -> None:
    """The installing user decides where packages come from; a host in a file would decide for them."""
    hosts = re.compile(
        r"pypi\.(?:org|python)|files\.python" + r"hosted|(?:extra-)?index-url|registry\.npm" + "js", re.I
    )
    own = Path(__file__).relative_to(ROOT).as_posix()
    assert not {name for name, text in texts().items() if name != own and hosts.search(text)}


def test_every_file_is_utf8_with_lf() -> None:
    assert not {name for name in text_files() if b"\r" in (ROOT / name).read_bytes()}
    assert texts()[".gitattributes"].splitlines()[-1] == "* text=auto eol=lf"


def test_generated_files_are_ignored() -> None:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this copy has no git history to ask")
    names = [".scratch/x", ".env", "uv.lock", "tests/__pycache__/x.pyc", ".mypy_cache/x", ".hypothesis/x"]
    command = ["git", "check-ignore", *names]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split() == names


def test_cookiecutter_finds_one_template_and_no_key_among_its_questions() -> None:
    assert [path.name for path in ROOT.iterdir() if "{{" in path.name] == [TEMPLATE.name]
    questions = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    assert not {name for name in questions if re.search("key|secret|token|password", name)}


# --- versions ---------------------------------------------------------------------------------------------------------


@cache
def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins), "names and versions, nothing else"
    assert pins == sorted(pins, key=str.lower)
    return {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)}


def test_every_dependency_has_one_allowed_version(default_project: Path) -> None:
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["dev"]
    wanted = [Requirement(text) for text in (*own, *dev.requirements_of(default_project), "cookiecutter>=2.6")]
    for requirement in wanted:
        assert requirement.specifier.contains(constraints()[canonicalize_name(requirement.name)]), requirement


def test_the_oldest_python_is_the_same_everywhere(default_project: Path) -> None:
    project = tomllib.loads((default_project / "pyproject.toml").read_text(encoding="utf-8"))
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = ".".join(map(str, dev.OLDEST_PYTHON))
    assert project["project"]["requires-python"] == f">={oldest}"
    assert own["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert own["tool"]["mypy"]["python_version"] == oldest
    for path in WORKFLOWS:
        job = next(iter(load(path)["jobs"].values()))
        assert job["strategy"]["matrix"]["python"][0] == oldest


# --- workflows --------------------------------------------------------------------------------------------------------


def load(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


# What jobs may do beside reading the repository.
RIGHTS = {
    ("analysis.yml", "codeql"): {"security-events"},
    ("analysis.yml", "scorecard"): {"security-events", "id-token"},
    ("release.yml", "publish"): {"attestations", "contents", "id-token"},
    ("release-image.yml", "image"): {"attestations", "id-token", "packages"},
}


@pytest.mark.parametrize("path", ALL_WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_pinned_actions_with_least_rights(path: Path) -> None:
    text, workflow = path.read_text(encoding="utf-8"), load(path)
    uses = re.findall(r"uses: *(.*)", text)
    assert uses
    for use in uses:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), "a commit, and the version it is"
    assert workflow["permissions"] == {}
    # YAML 1.1 reads the key `on` as true. Pull requests of strangers must not run with the rights of the repository.
    assert set(workflow[True]) <= {"push", "pull_request", "schedule"}
    for name, job in workflow["jobs"].items():
        granted = RIGHTS.get((path.name, name), set())
        assert {right for right, level in job["permissions"].items() if level == "write"} == granted
        assert set(job["permissions"].values()) <= {"read", "write"}
        assert {right for right, level in job["permissions"].items() if level == "read"} <= {"contents"}
        if granted - {"security-events", "id-token"}:
            assert workflow[True] == {"push": {"tags": ["v*"]}}, "only a release may change anything"
            assert job["environment"] == "release", "where an owner can require a review"
        assert job["timeout-minutes"] <= 60
        checkouts = [step for step in job["steps"] if "actions/checkout@" in step.get("uses", "")]
        assert [step["with"]["persist-credentials"] for step in checkouts] == [False] * len(checkouts)
        if "environment" not in job:
            assert checkouts
        # An expression inside a script is pasted as text: a branch name could be a command.
        assert not [step for step in job["steps"] if "${{" in step.get("run", "")]


def test_the_template_is_tested_on_three_systems_with_the_one_command() -> None:
    jobs = load(WORKFLOWS[0])["jobs"]
    assert jobs["containers"]["steps"][-1]["run"].endswith("python3 dev.py containers")
    job = jobs["test"]
    assert {name.partition("-")[0] for name in job["strategy"]["matrix"]["os"]} == {"ubuntu", "macos", "windows"}
    assert job["steps"][-1]["run"] == "python dev.py test"


def test_the_scorecard_is_written_anew_and_shown_even_if_a_promise_is_broken() -> None:
    (job,) = load(SCORECARD)["jobs"].values()
    removed, written, shown, kept = job["steps"][-4:]
    assert removed["run"] == "rm SCORECARD.md", "an older one must not pass for the one that was not written"
    assert written["run"] == "python dev.py scorecard"
    assert shown["run"] == 'cat SCORECARD.md >> "$GITHUB_STEP_SUMMARY"'
    assert kept["with"]["path"] == "SCORECARD.md"
    assert shown["if"] == kept["if"] == "${{ !cancelled() }}"


def test_the_workflow_of_a_project_does_what_its_owner_would(default_project: Path) -> None:
    copied = default_project / ".github/workflows/ci.yml"
    assert copied.read_bytes() == WORKFLOWS[1].read_bytes()
    (job,) = load(copied)["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[-4:] == ["ruff check .", "ruff format --check .", "mypy --strict", "pytest"]


def test_what_is_published_was_built_without_any_right_scanned_and_attested() -> None:
    jobs = load(TEMPLATE / ".github/workflows/release.yml")["jobs"]
    assert jobs["publish"]["needs"] == "build"
    build = "\n".join(step.get("run", "") for step in jobs["build"]["steps"])
    for program in ("pytest", "pip-audit", "python -m build", "scripts/bundle.py --repository", "cyclonedx-py"):
        assert program in build
    assert not [step for step in jobs["publish"]["steps"] if "actions/checkout" in step.get("uses", "")]
    image = load(TEMPLATE / ".github/workflows/release-image.yml")["jobs"]["image"]["steps"]
    order = [step.get("uses", step.get("run", "")) for step in image]

    def place(text: str) -> int:
        return next(number for number, step in enumerate(order) if text in step)

    assert place("trivy-action") < place("docker push") < place("cosign sign")
    assert place("cosign sign") < place("attest-build-provenance") < place("attest-sbom")


def test_the_whole_check_is_one_command() -> None:
    script = ROOT / ".ci/run"
    assert os.name == "nt" or os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert "set -eu" in lines
    assert lines[-1] == "exec python3 dev.py test"


# --- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DOCUMENTS, "LICENSE"])
def test_a_document_is_there(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8")) > 500


def test_every_command_in_the_documents_exists() -> None:
    found: set[str] = set()
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for command, rest in re.findall(r"python3? dev\.py ([a-z]+)([^`\n#]*)", text):
            found.add(command)
            answers = [word for word in rest.split() if re.fullmatch(r"[a-z_]+=\S+", word)]
            dev.parse_answers(dev.Checkout(ROOT), answers)
            if command not in {"test", *dev.TOOLS}:  # whose arguments are not this parser's
                dev.parser().parse_args([command, *(word for word in rest.split() if word.startswith("--"))])
    assert found == {"containers", "fuzz", "manifest", "mutate", "serve", "render", "scorecard", "sync", "test"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_and_every_path_in_a_document_leads_somewhere(name: str, default_project: Path) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", text):
        assert (ROOT / target).exists(), target
    # `dir/file` or `file.ext` in backticks is a path here, or one in the generated project.
    package = default_project / "src" / dev.package_of(default_project)
    chassis = TEMPLATE / "src" / dev.CHASSIS
    path = r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|json|toml|txt|yaml|yml))`"
    for target in re.findall(path, text):
        assert target.startswith(".scratch/") or any(
            (place / target).exists() for place in (ROOT, default_project, package, TEMPLATE, chassis, chassis.parent)
        ), target


def test_no_document_names_a_version_that_does_not_exist() -> None:
    done = subprocess.run(["git", "tag", "--list"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert set(re.findall(r"--checkout (v[\d.]+)", text)) <= set(done.stdout.split()), name


@pytest.mark.parametrize("name", ["README.md", "UPGRADING.md"])
def test_the_account_in_a_command_is_explained(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    first = re.search(r"^(uvx|cookiecutter) .*org/cookiecutter", text, re.MULTILINE)
    assert first is not None
    assert re.search(r"`org` (stands for )?the account", " ".join(text[: first.start()].split()))


def test_step_8_of_the_upgrade_is_in_the_order_of_the_page() -> None:
    """The reader has done the steps before it in that order."""
    text = (ROOT / "UPGRADING.md").read_text(encoding="utf-8")
    step = text[text.index("\n8. **") : text.index("\n9. ")]
    later = [int(number) for number in re.findall(r"^   [^-|\s].*\(step (\d)\):$", step, re.MULTILINE)]
    assert len(later) > 5
    assert later == sorted(later)
    rows = (
        *("An import of `..policy`", "`...: has no effect", "`the tool ... cannot be served"),
        *("`not proved`", "Exit code 69", "`The result breaks"),
    )
    places = [step.index(f"   | {row}") for row in rows]
    assert places == sorted(places)


def test_no_document_has_the_key_on_a_command_line(default_project: Path) -> None:
    """Other users of the machine can see the arguments of a program."""
    documents = [*default_project.glob("*.md"), *default_project.glob("docs/*.md"), *default_project.glob("*.yaml")]
    documents += [
        *default_project.glob("deploy/**/*.*"),
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/*.svg"),
    ]
    with_key = {path.name for path in documents if re.search(r"curl[^`]*Bearer \$", path.read_text(encoding="utf-8"))}
    assert documents
    assert with_key == set()


def test_the_readme_of_a_project_sends_the_same_from_every_shell(default_project: Path) -> None:
    text = (default_project / "README.md").read_text(encoding="utf-8")
    bodies = re.findall(r"'(\{\"jsonrpc\".*?\})'\n", text)
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    shells = re.findall(r"^```(sh|powershell)$", (default_project / "docs/clients.md").read_text("utf-8"), re.MULTILINE)
    assert shells == ["sh", "powershell"] * 2


ANSWERS = [
    {},
    *({question: answer} for question, answer in dev.EVERY_ROOM.items()),
    dict.fromkeys(("auth", "rate_limit", "observability", "deployment", "ci"), "none") | {"examples": "no"},
    {"deployment": "kubernetes"},
    dict(dev.EVERY_ROOM),
]


@pytest.mark.parametrize("answers", ANSWERS, ids=str)
def test_documents_of_a_project_describe_what_it_has(answers: dict[str, Any], tmp_path: Path) -> None:
    project = bake(tmp_path, **answers)
    absent = [offer for offer in OFFERS if not (project / "src/mcp_chassis" / offer.package.replace(".", "/")).exists()]
    settings = {name for offer in absent for name in offer.settings}
    documents = [*project.glob("*.md"), *project.glob("docs/*.md"), project / ".env.example"]
    assert len(documents) > 6
    for path in documents:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(project)
        assert not {one for one in settings if re.search(rf"\b{one}\b", text)}, name
        for target, _, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#]*)(#([^)]+))?\)", text):
            linked = path.parent / target if target else path
            assert linked.is_file(), f"{name}: {target}"
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not anchor or anchor in anchors, f"{name}: {anchor}"
        if path.suffix == ".md":
            # A condition in the template must not glue a heading or a table to the text above it.
            for block in re.split(r"^```.*?^```$", text, flags=re.MULTILINE | re.DOTALL):
                assert not re.search(r"[^\n]\n#+ |^#+ .+\n[^\n]|^(?!\|).+\n\|", block, re.MULTILINE), name
    assert len((project / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_explains_every_question_and_every_choice() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {row[0]: row[1] for row in re.findall(r"^\| `([a-z_]+)` \| ([^|]*) \|", text, re.M)}
    questions = dev.Checkout(ROOT).questions()
    assert list(rows) == list(questions)
    for name, default in questions.items():
        choices = load_hook("pre_gen_project").CHOICES.get(name)
        if choices:
            assert default in (choices[0], list(choices))
            assert tuple(re.findall(r"`([^`]+)`", rows[name])[: len(choices)]) == choices, name
            assert re.match(r"\*\*`", rows[name]), f"{name}: the default is bold"


KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def entries(changelog: str) -> dict[str, int]:
    """Return how many entries every version has; all must be of a kind that Keep a Changelog knows."""
    found = {}
    for section in re.split(r"(?m)^## ", changelog)[1:]:
        version = section.partition("]")[0].removeprefix("[")
        kinds = dict(zip(re.findall(r"(?m)^### (.*)$", section), re.split(r"(?m)^### .*$", section)[1:], strict=True))
        assert set(kinds) <= set(KINDS), version
        assert all(re.search(r"(?m)^- \S", text) for text in kinds.values()), f"{version}: a kind without an entry"
        found[version] = sum(len(re.findall(r"(?m)^- \S", text)) for text in kinds.values())
    return found


def test_the_changelog_says_what_has_changed_since_the_last_release() -> None:
    """What changed a project after the newest tag has an entry below Unreleased; every tag has a section of its own."""
    found = entries((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert next(iter(found)) == "Unreleased"

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, encoding="utf-8", check=False).stdout

    tags = git("tag", "--list", "v*", "--sort", "-version:refname", "--merged", "HEAD").split()
    assert {tag.removeprefix("v") for tag in tags} <= set(found)
    changed = git("diff", "--name-only", tags[0], "--", TEMPLATE.name, "hooks", "cookiecutter.json") if tags else "all"
    assert found["Unreleased"] > 0 or not changed, "write what users will notice below [Unreleased]"


@pytest.mark.parametrize(
    "text", ["## [Unreleased]\n\n### News\n\n- x\n", "## [Unreleased]\n\n### Added\n\n### Fixed\n\n- x\n"]
)
def test_a_changelog_that_is_not_in_order_is_found(text: str) -> None:
    with pytest.raises(AssertionError):
        entries(text)


# --- code -------------------------------------------------------------------------------------------------------------


def test_dev_and_hooks_need_the_standard_library_only() -> None:
    for path in (ROOT / "dev.py", *(ROOT / "hooks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names, path.name
