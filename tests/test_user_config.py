"""Answers in a user's Cookiecutter configuration, which is YAML: its words for booleans, numbers and nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from baking import QUESTIONS, ROOT, load_hook

ASKED = [name for name in QUESTIONS if not name.startswith("_")]
NOTHING = "Nothing was generated"

# Every question, in the way that a person would write it in YAML; none is a default.
PLAIN = """
  project_name: Notes 2
  project_slug: noter
  package_name: notes_app
  description: Keeps notes
  author_name: "No"
  author_email: notes@example.org
  port: 8081
  trusted_origins: https://app.example.com
  auth: none
  rate_limit: none
  max_requests_per_minute: 70
  request_logging: off
  log_level: WARNING
  audit_trail: yes
  observability: none
  evals: yes
  examples: no
  deployment: none
  ci: none
  license: Apache-2.0
"""


def generate(directory: Path, answers: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line with a configuration that holds these answers."""
    config = directory / "config.yaml"
    stored = f"replay_dir: {directory}/replay\ncookiecutters_dir: {directory}/cookiecutters\n"
    config.write_text(f"{stored}default_context:{answers}", encoding="utf-8")
    command = ["--no-input", "--config-file", str(config), "--output-dir", str(directory), str(ROOT)]
    return subprocess.run(
        [sys.executable, "-m", "cookiecutter", *command], capture_output=True, encoding="utf-8", check=False
    )


def test_every_question_takes_the_answer_as_yaml_reads_it(tmp_path: Path) -> None:
    done = generate(tmp_path, PLAIN)
    assert done.returncode == 0, done.stderr
    assert "Invalid default" not in done.stderr
    assert [line.split(":")[0].strip() for line in PLAIN.strip().splitlines()] == ASKED
    project = tmp_path / "noter"
    env = (project / ".env").read_text(encoding="utf-8")
    for line in ("PORT=8081", "TRUSTED_ORIGINS=https://app.example.com", "ENABLE_AUTH=false", "LOG_LEVEL=WARNING"):
        assert f"\n{line}\n" in env, line
    for line in ("ENABLE_RATE_LIMIT=false", "MAX_REQUESTS_PER_MINUTE=70", "ENABLE_REQUEST_LOGGING=false"):
        assert f"\n{line}\n" in env, line
    metadata = (project / "pyproject.toml").read_text(encoding="utf-8")
    for text in ("Keeps notes", '"No"', "notes@example.org", "Apache-2.0"):
        assert text in metadata, text
    assert (project / "src/mcp_chassis/audit_trail").is_dir()
    assert [path.name for path in (project / "evals").iterdir()] == ["hello.yaml"]
    absent = ("src/mcp_chassis/telemetry", "src/notes_app/orders.py", "Dockerfile", ".github")
    assert not [name for name in absent if (project / name).exists()]


@pytest.mark.parametrize(
    ("answers", "audit", "examples", "logging"),
    [
        ("\n  audit_trail: true\n  examples: false\n  request_logging: false\n", True, False, "false"),
        ("\n  audit_trail: On\n  examples: YES\n  request_logging: yes\n  trusted_origins:\n", True, True, "true"),
        ("\n  audit_trail: 'no'\n  examples: 'full'\n  request_logging: 'on'\n", False, True, "true"),
        ("\n  audit_trail:\n  examples: ~\n  request_logging: null\n", False, True, "true"),
    ],
)
def test_any_spelling_means_the_same_and_other_answers_stay(
    answers: str, audit: bool, examples: bool, logging: str, tmp_path: Path
) -> None:
    done = generate(tmp_path, f"{answers}  project_slug: noter\n  ci: none\n")
    assert done.returncode == 0, done.stderr
    project = tmp_path / "noter"
    assert (project / "src/mcp_chassis/audit_trail").is_dir() == audit
    assert (project / "src/noter/orders.py").is_file() == examples
    env = (project / ".env").read_text(encoding="utf-8")
    assert f"\nENABLE_REQUEST_LOGGING={logging}\n" in env
    assert "\nTRUSTED_ORIGINS=\n" in env
    assert not (project / ".github").exists()


def test_a_text_that_yaml_reads_as_something_else_is_refused_by_name(tmp_path: Path) -> None:
    texts = [name for name in ASKED if name not in load_hook("pre_gen_project").CHOICES]
    words = ["yes", "no", "on", "off", "true", "~"]
    answers = [f"  {name}: {words[number % len(words)]}" for number, name in enumerate(texts)]
    done = generate(tmp_path, "\n" + "\n".join(answers) + "\n")
    assert done.returncode != 0
    assert NOTHING in done.stderr
    assert "Traceback" not in done.stderr
    for name in texts:
        assert f"  {name}: " in done.stderr, name
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name not in {"replay", "cookiecutters"}]
