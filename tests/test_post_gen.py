"""The post_gen hook: what it removes, what it lays over, what it leaves alone; and scripts/create_env.py."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from baking import QUESTIONS, TEMPLATE, bake, cookiecutter_command, files, load_hook, load_module

pre_gen = load_hook("pre_gen_project")
post_gen = load_hook("post_gen_project")
ROWS: list[dict[str, Any]] = QUESTIONS["__optional_files"]
OPTIONAL = {name for row in ROWS for name in row.get("files", ())}
TABLE: dict[str, Any] = {
    "__optional_files": [
        {"question": "deployment", "answers": ["docker", "kubernetes"], "files": ["Dockerfile"]},
        {"question": "deployment", "answers": ["kubernetes"], "files": ["deploy/kubernetes/server.yaml"]},
        {"question": "ci", "answers": ["github"], "files": [".github/workflows/ci.yml"]},
    ],
}


def write(project: Path, *names: str, text: str = "the template's") -> None:
    for name in names:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# The table -----------------------------------------------------------------------------------------------------------


def test_every_file_in_the_table_exists_in_the_template() -> None:
    assert files(TEMPLATE) >= OPTIONAL


def test_every_deployment_and_ci_file_of_the_template_is_in_the_table() -> None:
    optional_places = ("Dockerfile", ".dockerignore", "compose", "deploy/", ".github/")
    assert {name for name in files(TEMPLATE) if name.startswith(optional_places)} <= OPTIONAL


def test_the_table_names_only_questions_and_answers_that_exist() -> None:
    for row in ROWS:
        assert set(row["answers"]) < set(pre_gen.CHOICES[row["question"]])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join([row["question"], *row["answers"]]))
def test_files_are_there_exactly_if_asked_for(row: dict[str, Any], tmp_path: Path) -> None:
    optional = {name.replace("{{cookiecutter.package_name}}", "secure_mcp_server") for name in row.get("files", ())}
    # A file may depend on several questions: the others are answered so that it is there, in one project or another.
    others = [one for one in ROWS if one["question"] != row["question"] and optional & set(one.get("files", ()))]
    around: dict[str, list[str]] = {}
    for one in others:
        around[one["question"]] = sorted({*around.get(one["question"], ()), one["answers"][0]})
    for answer in pre_gen.CHOICES[row["question"]]:
        is_asked_for, found = answer in row["answers"], set()
        for values in itertools.product(*around.values()):
            answers = {**dict(zip(around, values, strict=True)), row["question"]: answer}
            if answers.get("auth") == "none":
                answers["deployment"] = "none"
            project = bake(tmp_path / "-".join([answer, *values]), **answers)
            found |= files(project) & optional
            assert all((project / name).is_dir() is is_asked_for for name in row.get("directories", ()))
            assert not (project / "_variants").exists()
            assert not [path for path in project.rglob("*") if path.is_dir() and not any(path.iterdir())]
        assert found == (optional if is_asked_for else set())


# Removing ------------------------------------------------------------------------------------------------------------


def test_what_was_not_asked_for_is_removed_with_its_empty_directories(tmp_path: Path) -> None:
    write(tmp_path, "README.md", *(name for row in TABLE["__optional_files"] for name in row.get("files", ())))

    kept = post_gen.remove_unwanted(tmp_path, {**TABLE, "deployment": "docker", "ci": "none"})

    assert kept == []
    assert files(tmp_path) == {"README.md", "Dockerfile"}
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "Dockerfile"}


def test_files_of_the_user_beside_those_that_are_removed_stay(tmp_path: Path) -> None:
    write(tmp_path, ".github/workflows/ci.yml", ".github/workflows/release.yml", "deploy/kubernetes/mine.yaml")
    write(tmp_path, "deploy/kubernetes/server.yaml")

    post_gen.remove_unwanted(tmp_path, {**TABLE, "deployment": "none", "ci": "none"})

    assert files(tmp_path) == {".github/workflows/release.yml", "deploy/kubernetes/mine.yaml"}


def test_files_that_are_missing_already_are_no_error(tmp_path: Path) -> None:
    assert post_gen.remove_unwanted(tmp_path, {**TABLE, "deployment": "none", "ci": "none"}) == []


def test_a_file_that_was_there_before_survives_not_being_asked_for(tmp_path: Path) -> None:
    answers = {**TABLE, "deployment": "none", "ci": "none"}
    write(tmp_path, "Dockerfile", ".github/workflows/ci.yml", text="mine")

    pre_gen.set_aside(tmp_path, answers)
    write(tmp_path, "Dockerfile", ".github/workflows/ci.yml")  # what rendering does with -f
    kept = post_gen.remove_unwanted(tmp_path, answers)

    assert kept == ["Dockerfile", ".github/workflows/ci.yml"]
    assert files(tmp_path) == set(kept)
    assert {(tmp_path / name).read_text() for name in kept} == {"mine"}


@pytest.mark.skipif(os.name == "nt", reason="making symbolic links needs a privilege on Windows")
def test_a_link_that_leads_nowhere_survives_not_being_asked_for(tmp_path: Path) -> None:
    answers = {**TABLE, "deployment": "none", "ci": "none"}
    (tmp_path / "Dockerfile").symlink_to("nowhere")

    pre_gen.set_aside(tmp_path, answers)
    write(tmp_path, "Dockerfile")
    kept = post_gen.remove_unwanted(tmp_path, answers)

    assert kept == ["Dockerfile"]
    assert os.readlink(tmp_path / "Dockerfile") == "nowhere"
    assert len(os.listdir(tmp_path)) == 1


def test_a_file_that_an_interrupted_run_has_set_aside_is_not_lost_in_the_next(tmp_path: Path) -> None:
    answers = {**TABLE, "deployment": "none", "ci": "none"}
    write(tmp_path, "Dockerfile", text="mine")
    pre_gen.set_aside(tmp_path, answers)
    write(tmp_path, "Dockerfile")  # and here the first run ends

    pre_gen.set_aside(tmp_path, answers)
    post_gen.remove_unwanted(tmp_path, answers)

    assert files(tmp_path) == {"Dockerfile"}
    assert (tmp_path / "Dockerfile").read_text() == "mine"


def test_the_hooks_agree_on_what_a_file_is_called_while_it_is_set_aside() -> None:
    assert pre_gen.KEPT_SUFFIX == post_gen.KEPT_SUFFIX


# Variants ------------------------------------------------------------------------------------------------------------


def test_a_variant_replaces_and_adds_files_and_no_variants_remain(tmp_path: Path) -> None:
    write(tmp_path, "src/pkg/resources.py", "src/pkg/server.py")
    write(tmp_path, "_variants/examples-no/src/pkg/resources.py", "_variants/examples-no/docs/new.md", text="variant")
    write(tmp_path, "_variants/auth-api-key/auth.txt", text="a choice with a dash")
    write(tmp_path, "_variants/examples-yes/src/pkg/server.py", "_variants/not-asked/x", text="not chosen")

    post_gen.lay_variants(tmp_path, {"examples": "no", "auth": "api-key", "description": "../../x"})

    assert files(tmp_path) == {"src/pkg/resources.py", "src/pkg/server.py", "docs/new.md", "auth.txt"}
    assert (tmp_path / "src/pkg/resources.py").read_text() == "variant"
    assert (tmp_path / "src/pkg/server.py").read_text() == "the template's"


def test_every_variant_belongs_to_an_answer_that_exists() -> None:
    for variant in (TEMPLATE / "_variants").iterdir():
        question, _, answer = variant.name.partition("-")
        assert answer in pre_gen.CHOICES[question]


# Over an existing project --------------------------------------------------------------------------------------------


def test_generating_again_changes_nothing_and_keeps_the_files_of_the_user(tmp_path: Path) -> None:
    project = bake(tmp_path)
    mine = ["src/secure_mcp_server/tools/mine.py", "src/secure_mcp_server/mine/deep.py", ".github/workflows/mine.yml"]
    write(project, *mine, "deploy/mine/notes.txt", "tests/test_mine.py", text="mine")
    before = {name: (project / name).read_bytes() for name in files(project)}

    bake(tmp_path, overwrite=True)

    assert {name: (project / name).read_bytes() for name in files(project)} == before


@pytest.mark.parametrize("options", [["-f"], ["-f", "-s"]], ids=["overwrite", "overwrite-but-skip-existing"])
def test_a_dockerfile_and_workflows_of_the_user_survive_a_run_that_asks_for_none(
    tmp_path: Path, options: list[str]
) -> None:
    project = bake(tmp_path, deployment="none", ci="none")
    write(project, "Dockerfile", ".github/workflows/ci.yml", ".github/workflows/mine.yml", text="mine")
    before = {name: (project / name).read_bytes() for name in files(project)}

    done = cookiecutter_command(tmp_path, *options, deployment="none", ci="none")

    assert done.returncode == 0, done.stderr
    assert {name: (project / name).read_bytes() for name in files(project)} == before
    assert "Dockerfile was there before" in done.stdout


# What it says --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, ["cd secure-mcp-server", "uv run secure-mcp-server serve", 'pip install -e ".[dev]"', "key is in .env"]),
        ({"rate_limit": "redis"}, ["REDIS_URL"]),
        ({"auth": "oauth"}, ["OAUTH_ISSUER"]),
        ({"auth": "none", "deployment": "none"}, ["every program on this machine"]),
        ({"audit_trail": "yes"}, ["AUDIT_FILE", "AUDIT_KEY", "docs/audit.md"]),
        ({"evals": "yes"}, ["EVAL_URL", "EVAL_MODEL", "docs/evals.md"]),
        ({"observability": "metrics-and-traces"}, ["OTEL_EXPORTER_OTLP_ENDPOINT", "otel"]),
        ({"author_email": "you@example.com"}, ["the placeholder you@example.com", "SECURITY.md", ".github/CODEOWNERS"]),
    ],
    ids=["default", "redis", "oauth", "none", "audit", "evals", "traces", "no address"],
)
def test_the_next_steps_fit_the_answers(
    default_answers: dict[str, str], answers: dict[str, str], said: list[str]
) -> None:
    text = post_gen.next_steps({**default_answers, **answers}, [])
    assert text.isascii()
    for part in said:
        assert part in text


def test_the_default_project_has_nothing_to_say_of_redis_or_oauth(default_answers: dict[str, str]) -> None:
    text = post_gen.next_steps({**default_answers, "author_email": "team@example.com"}, [])
    assert "REDIS" not in text
    assert "OAUTH" not in text
    assert "placeholder" not in text


def test_every_file_with_the_address_of_the_author_is_named(
    default_project: Path, default_answers: dict[str, str], tmp_path: Path
) -> None:
    for project, ci in ((default_project, "github"), (bake(tmp_path, ci="none"), "none")):
        answers = {**default_answers, "project_slug": "x", "ci": ci}
        said = post_gen.next_steps({**answers, "author_email": post_gen.PLACEHOLDER_EMAIL}, [])
        holding = {
            name for name in files(project) if post_gen.PLACEHOLDER_EMAIL.encode() in (project / name).read_bytes()
        }
        assert holding == set(re.findall(r"SECURITY\.md|pyproject\.toml|\.github/CODEOWNERS", said))


# Failing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["", "import sys; sys.exit(1)"], ids=["missing", "failing"])
def test_a_project_without_env_is_a_failure_that_says_what_to_do(tmp_path: Path, script: str) -> None:
    if script:
        write(tmp_path, "scripts/create_env.py", text=script)
    with pytest.raises(post_gen.CannotFinish, match="--accept-hooks no"):
        post_gen.create_env(tmp_path)


def test_a_failure_is_one_ascii_sentence_and_a_non_zero_exit(
    tmp_path: Path, default_answers: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "caf\u00e9"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setattr(post_gen, "read_answers", lambda: {**default_answers, **TABLE})

    assert post_gen.main() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.isascii()
    assert said.err.startswith("The project could not be completed: ")
    assert len(said.err.splitlines()) == 1


def test_a_failure_that_names_a_file_in_another_script_is_one_ascii_line(
    default_answers: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(21, "Is a directory", "caf\u00e9\nsecond line")

    monkeypatch.setattr(post_gen, "read_answers", lambda: default_answers)
    monkeypatch.setattr(post_gen, "remove_unwanted", fail)

    assert post_gen.main() == 1
    said = capsys.readouterr().err
    assert said.isascii()
    assert len(said.splitlines()) == 1


# scripts/create_env.py -----------------------------------------------------------------------------------------------


def run_create_env(project: Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(project / "scripts" / "create_env.py")]
    return subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A project generated with `--accept-hooks no`."""
    return bake(tmp_path, hooks=False)


@pytest.mark.parametrize("rate_limit", pre_gen.CHOICES["rate_limit"])
def test_one_command_completes_a_project_generated_without_hooks(rate_limit: str, tmp_path: Path) -> None:
    bare = bake(tmp_path / "bare", hooks=False, rate_limit=rate_limit)
    assert not (bare / ".env").exists()

    done = run_create_env(bare, cwd=tmp_path)  # not in the project: the script finds it by itself

    assert done.returncode == 0
    example, made = ((bare / name).read_text(encoding="utf-8").splitlines() for name in (".env.example", ".env"))
    changed = [(a, b) for a, b in zip(example, made, strict=True) if a != b]
    secrets = ["API_KEY=", "STATE_SECRET="] if rate_limit == "redis" else ["API_KEY="]
    assert [empty for empty, _ in changed] == secrets
    values = [filled.removeprefix(empty) for empty, filled in changed]
    patterns = [r"mcp_[\w-]{43}", r"[\w-]{43}"]  # 256 bits in base64url
    assert all(re.fullmatch(pattern, value) for pattern, value in zip(patterns, values, strict=False))
    assert len({value.removeprefix("mcp_") for value in values}) == len(secrets)


def test_an_existing_env_is_left_byte_for_byte(bare: Path) -> None:
    content = b"API_KEY=mine\r\n\xff no text at all"
    (bare / ".env").write_bytes(content)

    done = run_create_env(bare, cwd=bare)

    assert done.returncode == 0
    assert "left as it is" in done.stdout
    assert (bare / ".env").read_bytes() == content


def dangling_link(env: Path) -> None:
    env.symlink_to(env.parent.parent / "elsewhere")


def link_to_itself(env: Path) -> None:
    env.symlink_to(env)


def link_to_a_directory(env: Path) -> None:
    env.symlink_to(env.parent)


def identity(path: Path) -> tuple[int, ...]:
    """What changes when a file is replaced or written, and not when it is read."""
    stat = path.lstat()
    return stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns


NO_FILES = [dangling_link, link_to_itself, link_to_a_directory, Path.mkdir, *([os.mkfifo] if os.name != "nt" else [])]


@pytest.mark.skipif(os.name == "nt", reason="making symbolic links needs a privilege on Windows")
@pytest.mark.parametrize("make", NO_FILES, ids=lambda make: make.__name__)
def test_an_env_that_is_no_file_is_left_and_is_a_failure(bare: Path, make: Callable[[Path], None]) -> None:
    make(bare / ".env")
    before = identity(bare / ".env")

    done = run_create_env(bare, cwd=bare)

    assert done.returncode == 1
    assert done.stdout == ""
    assert "Remove it and try again" in done.stderr
    assert "Traceback" not in done.stderr
    assert identity(bare / ".env") == before
    assert not (bare.parent / "elsewhere").exists()


@pytest.mark.skipif(os.name == "nt", reason="making symbolic links needs a privilege on Windows")
def test_the_hook_does_not_end_well_without_a_key(tmp_path: Path) -> None:
    project = bake(tmp_path)
    (project / ".env").unlink()
    dangling_link(project / ".env")

    done = cookiecutter_command(tmp_path, "-f")

    assert done.returncode == 1
    assert "The project is ready" not in done.stdout
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.name == "nt", reason="making symbolic links needs a privilege on Windows")
def test_a_link_to_a_file_in_place_of_env_is_left(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("API_KEY=mine")
    (bare / ".env").symlink_to(tmp_path / "elsewhere")

    assert run_create_env(bare, cwd=bare).returncode == 0
    assert (bare / ".env").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "API_KEY=mine"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs file modes, and root reads every file")
def test_an_env_that_cannot_be_read_is_left_and_is_a_failure(bare: Path) -> None:
    (bare / ".env").write_text("API_KEY=mine")
    (bare / ".env").chmod(0)

    done = run_create_env(bare, cwd=bare)

    assert done.returncode == 1
    assert "cannot be read: Permission denied" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes: the directory's access rights decide there")
def test_no_other_user_can_read_env_at_any_moment(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_env = load_module(bare / "scripts" / "create_env.py")
    modes, opened = set(), os.fdopen

    def record(descriptor: int, mode: str) -> Any:
        modes.add(os.fstat(descriptor).st_mode & 0o777)
        return opened(descriptor, mode)

    monkeypatch.setattr(create_env.os, "fdopen", record)
    mask = os.umask(0)
    try:
        assert create_env.main() == 0
    finally:
        os.umask(mask)
    assert modes == {0o600}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes: the directory's access rights decide there")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_the_owner_can_read_env_whatever_the_umask(bare: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        load_module(bare / "scripts" / "create_env.py").main()
    finally:
        os.umask(before)
    assert (bare / ".env").stat().st_mode & 0o777 == 0o600


def test_no_half_written_env_remains_if_writing_fails(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_env = load_module(bare / "scripts" / "create_env.py")

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(create_env.os, "fdopen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create_env.main()
    assert not (bare / ".env").exists()


@pytest.mark.parametrize("example", ["", "API_KEY=\nAPI_KEY=\n", "API_KEY=preset\n"])
def test_an_example_without_one_empty_key_is_refused_with_a_sentence(bare: Path, example: str) -> None:
    (bare / ".env.example").write_text(example)

    done = run_create_env(bare, cwd=bare)

    assert done.returncode == 1
    assert "exactly one line that is API_KEY=" in done.stderr
    assert not (bare / ".env").exists()


def test_a_missing_example_is_refused_with_a_sentence(bare: Path) -> None:
    (bare / ".env.example").unlink()

    done = run_create_env(bare, cwd=bare)

    assert done.returncode == 1
    assert ".env.example is missing" in done.stderr
    assert "Traceback" not in done.stderr
