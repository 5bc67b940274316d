"""Every combination of answers, rendered and parsed; and answers that try to break out of where they are put."""

import ast
import contextlib
import functools
import hashlib
import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from email.headerregistry import Address
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from baking import QUESTIONS, ROOT, TEMPLATE, bake, files, load_hook
from cookiecutter.generate import generate_context, generate_files
from cookiecutter.prompt import prompt_for_config
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

import dev
from dev import EVERY_ROOM
from mcp_chassis.rooms import OFFERS
from mcp_chassis.settings import Settings, all_fields

pre_gen = load_hook("pre_gen_project")
post_gen = load_hook("post_gen_project")

CHOICES: dict[str, tuple[str, ...]] = pre_gen.CHOICES
# What decides about single lines need not multiply the other questions: it goes round beside them.
ROUND = ("log_level", "request_logging", "audit_trail", "evals", "license", "ci")
PRODUCT_OF = [name for name in CHOICES if name not in ROUND]
LEFTOVER = re.compile(r"cookiecutter\.[a-z_]+ *[|}]|\{\{ *cookiecutter|\{%|\{#|^ *#%", re.MULTILINE)
COPIED = re.compile(r"(src|scripts)/.*\.py|\.github/workflows/.*\.yml")


def combinations() -> Iterator[dict[str, str]]:
    rounds = {name: itertools.cycle(CHOICES[name]) for name in ROUND}
    for chosen in itertools.product(*(CHOICES[name] for name in PRODUCT_OF)):
        answers = dict(zip(PRODUCT_OF, chosen, strict=True))
        answers |= {name: next(choices) for name, choices in rounds.items()}
        if not pre_gen.contradictions(answers):
            yield answers


@pytest.fixture(scope="module")
def template_of_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template without the chassis, which is copied as it is, whatever the answers are."""
    place = tmp_path_factory.mktemp("template") / ROOT.name
    place.mkdir()
    shutil.copy(ROOT / "cookiecutter.json", place)
    shutil.copytree(TEMPLATE, place / TEMPLATE.name, ignore=shutil.ignore_patterns(dev.CHASSIS, "__pycache__"))
    return place


def render(output_dir: Path, **answers: str) -> Path:
    """Do what `bake` does in one process and without `.env`: hooks are called, not run."""
    return render_from(ROOT, output_dir, answers)


def render_from(template: Path, output_dir: Path, answers: dict[str, str]) -> Path:
    context = generate_context(str(template / "cookiecutter.json"), extra_context=answers)
    context["cookiecutter"] = prompt_for_config(context, no_input=True)
    assert pre_gen.problems(context["cookiecutter"]) == []
    project = Path(generate_files(template, context, output_dir=output_dir, accept_hooks=False))
    post_gen.remove_unwanted(project, context["cookiecutter"])
    post_gen.lay_variants(project, context["cookiecutter"])
    return project


@functools.cache
def parse(name: str, content: bytes) -> None:
    """Parse one file as what its name says it is. Most files are the same in most projects, hence the cache."""
    assert b"\r" not in content, name
    text = content.decode()
    if name.endswith(".py"):
        ast.parse(text, name)
    elif name.endswith(".toml"):
        tomllib.loads(text)
    elif name.endswith((".yaml", ".yml")):
        assert all(yaml.safe_load_all(text)), f"{name}: a document is empty"


@functools.cache
def check_rendered(name: str, content: bytes) -> None:
    """Look for Jinja that should be gone."""
    text = content.decode()
    assert "{{cookiecutter" not in text, name
    if not COPIED.fullmatch(name):
        assert not LEFTOVER.search(text), f"{name}: {LEFTOVER.search(text)}"


def check(project: Path) -> None:
    """Check every file of a project whose answers hold nothing that looks like Jinja."""
    names = files(project)
    assert {"pyproject.toml", "README.md", "LICENSE", ".env.example", "scripts/create_env.py"} <= names
    for name in names:
        assert not re.search(r"[{}]|cookiecutter", name), name
        content = (project / name).read_bytes()
        parse(name, content)
        check_rendered(name, content)


def env_of(project: Path) -> dict[str, str]:
    lines = (project / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


# Combinations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", CHOICES["auth"])
@pytest.mark.parametrize("deployment", CHOICES["deployment"])
def test_every_combination_of_answers_renders_to_files_that_parse(
    auth: str, deployment: str, template_of_texts: Path, tmp_path: Path
) -> None:
    chosen = [c for c in combinations() if c["auth"] == auth and c["deployment"] == deployment]
    assert bool(chosen) == (auth != "none" or deployment == "none")
    for number, answers in enumerate(chosen):
        project = render_from(template_of_texts, tmp_path / str(number), answers)
        check(project)
        shutil.rmtree(project)


def test_the_combinations_are_the_full_product_without_the_contradictions() -> None:
    everything = 1
    for name in PRODUCT_OF:
        everything *= len(CHOICES[name])
    assert len(list(combinations())) == everything - everything * 2 // 9  # auth=none with two of three deployments
    for name in ROUND:
        assert {c[name] for c in combinations()} == set(CHOICES[name])


def test_calling_the_hooks_gives_what_running_them_gives(default_project: Path, tmp_path: Path) -> None:
    rendered = render(tmp_path)
    assert files(rendered) == files(default_project) - {".env"}
    for name in files(rendered):
        assert (rendered / name).read_bytes() == (default_project / name).read_bytes()


@pytest.mark.parametrize("level", CHOICES["log_level"])
def test_every_log_level_reaches_the_settings(level: str, tmp_path: Path) -> None:
    assert env_of(render(tmp_path, log_level=level))["LOG_LEVEL"] == level


# Copied, not rendered ------------------------------------------------------------------------------------------------


def test_source_files_are_copied_byte_for_byte(tmp_path: Path) -> None:
    everything = render(tmp_path, **EVERY_ROOM, examples="full")
    sources = {name for name in files(TEMPLATE) if COPIED.fullmatch(name)}
    assert any(name.startswith("src/") for name in sources)
    for name in sources:
        made = everything / name.replace("{{cookiecutter.package_name}}", "secure_mcp_server")
        variant = TEMPLATE / "_variants/examples-full" / name
        assert made.read_bytes() == (variant if variant.exists() else TEMPLATE / name).read_bytes(), name


def test_nothing_that_is_copied_would_overwrite_a_directory() -> None:
    """A pattern that matches a directory makes `-f` delete it, with the user's own files in it."""
    for pattern in QUESTIONS["_copy_without_render"]:
        assert re.search(r"\*\.[a-z]+$", pattern), pattern


# .env.example --------------------------------------------------------------------------------------------------------


def test_the_settings_of_the_optional_packages_are_those_that_they_are_offered_with() -> None:
    """What `rooms.py` lists is how a project without a package knows that a setting asks for one."""
    own = {name.upper() for name in Settings.model_fields}
    offered = [name for offer in OFFERS for name in offer.settings]
    assert sorted(offered) == sorted({name.upper() for name in all_fields()} - own)
    defaults = {name.upper(): field.default for name, field in all_fields().items()}
    for offer in OFFERS:
        for name, nothing in offer.settings.items():
            default = defaults[name]
            as_text = (
                "" if default in (None, ()) else str(default).lower() if isinstance(default, bool) else str(default)
            )
            assert nothing in (as_text, None), name


ORDER_DESK = {"DATABASE", "STOCK_URL"}
"""The settings of the examples: the team's own."""


def test_without_the_examples_there_is_no_setting_of_theirs(tmp_path: Path) -> None:
    assert not ORDER_DESK & set(env_of(render(tmp_path, examples="no")))


@pytest.mark.parametrize("answers", [{}, *({offer.question: offer.answer} for offer in OFFERS), EVERY_ROOM], ids=str)
def test_the_example_has_every_setting_of_the_project_and_no_other(answers: dict[str, str], tmp_path: Path) -> None:
    project = render(tmp_path, **answers)
    present = [offer for offer in OFFERS if (project / "src/mcp_chassis" / offer.package.replace(".", "/")).is_dir()]
    expected = {name.upper() for name in Settings.model_fields} | ORDER_DESK
    assert set(env_of(project)) == expected.union(*(offer.settings for offer in present))


def test_every_setting_is_explained_in_the_line_above_it(tmp_path: Path) -> None:
    lines = (render(tmp_path, **EVERY_ROOM) / ".env.example").read_text(encoding="utf-8").splitlines()
    for comment, line in itertools.pairwise(lines):
        if line and not line.startswith("#"):
            assert comment.startswith("# "), line


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            {},
            {"ENABLE_AUTH": "true", "API_KEY": "", "PORT": "8080", "HOST": "127.0.0.1"}
            | {"ENABLE_RATE_LIMIT": "true", "MAX_REQUESTS_PER_MINUTE": "100", "TRUSTED_ORIGINS": ""}
            | {"ENABLE_REQUEST_LOGGING": "true", "LOG_LEVEL": "INFO", "MCP_ENDPOINT": "/mcp"},
        ),
        ({"auth": "oauth"}, {"ENABLE_AUTH": "true", "AUTH_MODE": "oauth", "OAUTH_ISSUER": ""}),
        ({"auth": "none", "deployment": "none"}, {"ENABLE_AUTH": "false", "API_KEY": ""}),
        ({"rate_limit": "redis"}, {"ENABLE_RATE_LIMIT": "true", "REDIS_URL": "redis://127.0.0.1:6379/0"}),
        ({"rate_limit": "none"}, {"ENABLE_RATE_LIMIT": "false"}),
        ({"max_requests_per_minute": "7", "port": "9090"}, {"MAX_REQUESTS_PER_MINUTE": "7", "PORT": "9090"}),
        ({"request_logging": "off"}, {"ENABLE_REQUEST_LOGGING": "false"}),
        (
            {"trusted_origins": "https://a.example,http://[::1]:3000"},
            {"TRUSTED_ORIGINS": "https://a.example,http://[::1]:3000"},
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) and len(value) < 3 else "",
)
def test_answers_reach_the_settings(answers: dict[str, str], expected: dict[str, str], tmp_path: Path) -> None:
    env = env_of(render(tmp_path, **answers))
    assert {name: env[name] for name in expected} == expected


# LICENSE -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("license_name", "first_line", "holds", "spdx"),
    [
        ("MIT", "MIT License", "Permission is hereby granted, free of charge", "MIT"),
        ("Apache-2.0", "Apache License", "9. Accepting Warranty or Additional Liability", "Apache-2.0"),
        ("Proprietary", "Copyright (c) ", "All rights reserved", "LicenseRef-Proprietary"),
    ],
)
def test_the_license_is_the_chosen_one_with_author_and_year(
    license_name: str, first_line: str, holds: str, spdx: str, tmp_path: Path
) -> None:
    project = render(tmp_path, license=license_name, author_name="Zo\u00eb O'Hara")
    text = (project / "LICENSE").read_text(encoding="utf-8")

    assert text.splitlines()[0].strip().startswith(first_line)
    assert holds in text
    assert re.search(rf"Copyright (\(c\) )?{datetime.now(UTC).year} Zo\u00eb O'Hara", text)
    assert tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license"] == spdx


@pytest.mark.parametrize(
    ("license_name", "before", "holder", "digest"),
    [
        (
            "MIT",
            "",
            "Copyright (c) <year> <copyright holders>",  # as in the list of SPDX
            "24f09d6d1dc1534b8efcaca939ddec1969cac255471aae25d299ab8e81ada29f",
        ),
        (
            "Apache-2.0",
            "\n",  # www.apache.org/licenses/LICENSE-2.0.txt begins with an empty line
            "Copyright [yyyy] [name of copyright owner]",
            "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
        ),
    ],
    ids=["MIT", "Apache-2.0"],
)
def test_a_license_is_the_canonical_text_but_for_year_and_holder(
    license_name: str, before: str, holder: str, digest: str, tmp_path: Path
) -> None:
    text = (render(tmp_path, license=license_name, author_name="The Holder") / "LICENSE").read_text(encoding="utf-8")
    blank, filled = re.subn(r"Copyright (\(c\) )?\d{4} The Holder", holder, text)
    assert filled == 1
    assert hashlib.sha256((before + blank).encode()).hexdigest() == digest


# Hostile answers -----------------------------------------------------------------------------------------------------

HOSTILE = {
    "double-quotes": 'say "hello" and ""',
    "triple-double-quotes": 'a """ b """',
    "triple-single-quotes": "a ''' b '''",
    "backslashes": "C:\\new\\table \\u0041 \\",
    "backslash-quote": 'ends with \\"',
    "emoji": "tools \U0001f469\u200d\U0001f4bb \U0001f9d1\U0001f3fd\u200d\U0001f680 \u2764\ufe0f",
    "right-to-left": "\u05e9\u05e8\u05ea \u05de\u05d0\u05d5\u05d1\u05d8\u05d7 \u0627\u0644\u062e\u0627\u062f\u0645",
    "joiners": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u200d\u0937",
    "braces": "{single} {'a': {1}} }} end",
    "yaml": "yes: - [a, b] & *c # not a comment",
    "toml": 'x" }]\u00a7 [tool.evil] k = "v',
    "markdown": "# *a* _b_ `c` <script>alert(1)</script> [x](y) | z |",
    "shell": "$(id) `id` $HOME ${HOME} %PATH% ; rm -rf / & | > <",
    "jinja-like": "% } #} %} { {not} # %",
    "astral": "\U0001d518\U0001d52b \U00020bb7",
    "boolean": "no",
    "number": "0x10",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_free_text_gives_a_valid_project_and_comes_back_unchanged(text: str, tmp_path: Path) -> None:
    project = render(tmp_path, project_name=text, project_slug="server", description=text, author_name=text)

    check_metadata(project, text)
    assert text in (project / "LICENSE").read_text(encoding="utf-8")
    for name in files(project):
        parse(name, (project / name).read_bytes())


def test_text_that_only_looks_like_jinja_when_put_beside_jinja(tmp_path: Path) -> None:
    project = render(tmp_path, project_name="{", project_slug="server", description="a {", author_name="} {")
    assert tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["description"] == "a {"


def check_metadata(project: Path, text: str) -> None:
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["name"] == "server"
    assert metadata["description"] == text
    assert metadata["authors"] == [{"name": text, "email": "you@example.com"}]
    assert text in (project / "README.md").read_text(encoding="utf-8")


def test_any_text_that_the_hook_accepts_gives_a_valid_project(tmp_path_factory: pytest.TempPathFactory) -> None:
    alphabet = st.one_of(st.characters(), st.sampled_from("\"'\\{}%# \u200d\u0645:"))

    @settings(max_examples=40, deadline=None)
    @given(st.text(alphabet, min_size=1, max_size=40).filter(lambda text: not pre_gen.text_fault(text, 80)))
    def examine(text: str) -> None:
        project = render(
            tmp_path_factory.mktemp("any"), project_name=text, project_slug="server", description=text, author_name=text
        )
        check_metadata(project, text)
        for name in files(project):
            parse(name, (project / name).read_bytes())

    examine()


def test_every_accepted_address_is_a_valid_author_address(tmp_path: Path) -> None:
    address = "!#$%&'*+/=?^_{|}~-.a@xn--strae-oqa.de"
    project = render(tmp_path, author_email=address)
    authors = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["authors"]
    assert authors[0]["email"] == address
    assert Address(addr_spec=address).domain == "xn--strae-oqa.de"


def test_hostile_answers_survive_the_real_hooks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = " ".join(HOSTILE[name] for name in ("emoji", "triple-double-quotes", "triple-single-quotes", "backslashes"))
    project = bake(tmp_path, project_name=text, project_slug="server", description=text, author_name=text)

    check_metadata(project, text)
    assert (project / ".env").exists()
    assert capfd.readouterr().out.isascii()


@pytest.mark.parametrize(
    ("name", "slug", "package"),
    [
        ("Secure MCP Server", "secure-mcp-server", "secure_mcp_server"),
        ('Zo\u00eb\'s "Tools"', "zoe-s-tools", "zoe_s_tools"),
        ("\U0001f680", "secure-mcp-server", "secure_mcp_server"),
        ("word " * 15 + "end", "word-word-word-word-word-word-word-word", "_".join(["word"] * 8)),
    ],
    ids=["words", "quotes", "emoji-only", "long"],
)
def test_names_follow_from_the_name_of_the_project(name: str, slug: str, package: str, tmp_path: Path) -> None:
    project = render(tmp_path, project_name=name)
    assert project.name == slug
    assert (project / "src" / package / "__init__.py").is_file()


@pytest.mark.parametrize("length", [1, pre_gen.MAX_NAME], ids=["shortest", "longest"])
def test_code_is_formatted_whatever_the_names_are(tmp_path: Path, length: int) -> None:
    project = bake(tmp_path, project_slug="s" * length, package_name="p" * length)
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=project, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout.decode()


def third_party_imports(directory: Path) -> set[str]:
    """Return the top-level modules, not of Python itself, that the files below a directory import."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in directory.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def installed_with(requirements: list[str]) -> set[str]:
    """Return the names of the distributions that these requirements bring, without further extras."""
    found: set[str] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        requirement = todo.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(name)
            with contextlib.suppress(PackageNotFoundError):
                todo += [Requirement(text) for text in requires(name) or ()]
    return found


def test_everything_that_a_project_s_tests_import_is_installed_with_them(default_project: Path) -> None:
    project = tomllib.loads((default_project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = installed_with([*project["dependencies"], *project["optional-dependencies"]["dev"]])
    imported = third_party_imports(default_project / "tests")
    imported |= third_party_imports(default_project / "src" / dev.CHASSIS / "testing")
    imported -= {"mcp_chassis", "tests", dev.package_of(default_project)}
    assert {"hypothesis", "pytest"} <= imported
    distributions = packages_distributions()
    missing = {name for name in imported if not {one.lower() for one in distributions.get(name, ())} & installed}
    assert missing == set(), "add what brings them to the extra `dev`"
