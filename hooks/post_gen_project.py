"""Turn the rendered files into the project that was asked for, and say what to do next.

1. Files that the answers do not ask for are removed: `__optional_files` in `cookiecutter.json` is the table of them.
   It lists files, so that `-f` removes nothing of the user's beside them; directories are rooms of the chassis, which
   belong to the template as a whole.
2. `_variants/<question>-<answer>/` is laid over the project, file by file; then `_variants` is removed.
3. The project's own `scripts/create_env.py` makes `.env`. The key is never an answer: cookiecutter stores answers.

Runs on whichever Python runs cookiecutter, with the standard library alone, and prints ASCII. If it fails, it says so
and exits non-zero; cookiecutter then removes the project, unless the directory was there before.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Mapping  # noqa: UP035 - as in the other hook

KEPT_SUFFIX = ".kept-by-cookiecutter"
"""The pre_gen hook adds it to files that were in the project before and that the answers do not ask for."""

VARIANTS = "_variants"

PLACEHOLDER_EMAIL = "you@example.com"
"""The default of `author_email`."""


class CannotFinish(Exception):
    """The project cannot be completed. The text says what to do."""


def remove_unwanted(project: Path, answers: Mapping[str, Any]) -> list[str]:
    """Remove the files that the answers do not ask for, and put back those that were there before this run.

    Returns:
        The files that were put back, for the user to know about.
    """
    kept = []
    for row in answers["__optional_files"]:
        if answers[row["question"]] in row["answers"]:
            continue
        for name in row.get("directories", ()):
            if (project / name).is_dir():
                shutil.rmtree(project / name)
        for name in row.get("files", ()):
            if os.path.lexists(project / (name + KEPT_SUFFIX)):
                os.replace(project / (name + KEPT_SUFFIX), project / name)
                kept.append(name)
            else:
                remove_file(project, name)
    return kept


def remove_file(project: Path, name: str) -> None:
    """Remove one file, and the directories that are empty without it."""
    path = project / name
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with contextlib.suppress(OSError):  # the first directory that is not empty ends this
        while (path := path.parent) != project:
            path.rmdir()


def lay_variants(project: Path, answers: Mapping[str, Any]) -> None:
    """Lay the variants of the given answers over the project, and remove all variants."""
    variants = project / VARIANTS
    if not variants.is_dir():
        return
    for variant in sorted(variants.iterdir()):
        question, _, answer = variant.name.partition("-")
        if answers.get(question) != answer:
            continue
        for source in sorted(path for path in variant.rglob("*") if path.is_file()):
            target = project / source.relative_to(variant)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
    shutil.rmtree(variants)


def create_env(project: Path) -> None:
    """Have the project make its own `.env`, with the one program that also makes it later."""
    script = os.path.join("scripts", "create_env.py")
    sys.stdout.flush()
    if subprocess.run([sys.executable, script], cwd=project, check=False).returncode:  # noqa: S603
        raise CannotFinish(
            "scripts/create_env.py could not make .env, as said above. Fix that and try again, or generate with "
            "--accept-hooks no and run it in the project."
        )


def next_steps(answers: Mapping[str, Any], kept: list[str]) -> str:
    """Return what to do with the project now."""
    slug = answers["project_slug"]
    lines = [
        "",
        "The project is ready. Start the server with uv:",
        "",
        f"    cd {slug}",
        f"    uv run {slug} serve",
        "",
        "or with pip, in a virtual environment:",
        "",
        f"    cd {slug}",
        '    pip install -e ".[dev]"',
        f"    {slug} serve",
        "",
        *notes(answers),
        *(f"{name} was there before this run: left as it was. Remove it if you do not want it." for name in kept),
    ]
    return "\n".join(lines)


def notes(answers: Mapping[str, Any]) -> list[str]:
    """Return what the answers leave for the user to do or to know."""
    found = ["The API key is in .env, which git ignores. README.md says how clients send it."]
    if answers["auth"] == "oauth":
        found = [
            "auth=oauth: set OAUTH_ISSUER in .env first; without it the server does not start. "
            "The API_KEY there is accepted beside tokens: empty it to accept tokens only."
        ]
    if answers["auth"] == "none":
        pages = "/security/events" if answers["observability"] == "none" else "/security/events, /metrics"
        found = [
            "auth=none: every program on this machine may call the tools. "
            f"The API_KEY in .env opens {pages} and the details of /health."
        ]
    if answers["rate_limit"] == "redis":
        found.append("rate_limit=redis: REDIS_URL in .env must name a running Redis.")
    if answers["audit_trail"] == "yes":
        found.append("audit_trail=yes: set AUDIT_FILE and AUDIT_KEY in .env to start the trail. See docs/audit.md.")
    if answers["observability"] == "metrics-and-traces":
        found.append(
            "observability=metrics-and-traces: traces need OTEL_EXPORTER_OTLP_ENDPOINT in .env and the extra `otel`."
        )
    if answers["evals"] == "yes":
        found.append(
            "evals=yes: asking a model needs the extra `eval`, EVAL_URL and EVAL_MODEL in .env. See docs/evals.md."
        )
    if answers["author_email"] == PLACEHOLDER_EMAIL:
        places = "pyproject.toml, .github/CODEOWNERS" if answers["ci"].startswith("github") else "pyproject.toml"
        found.append(f"Replace the placeholder {PLACEHOLDER_EMAIL} in {places} and SECURITY.md.")
    return found


def read_answers() -> dict[str, Any]:
    """Return what cookiecutter writes into this file: JSON, so that no answer can be code.

    In JSON a backslash always comes with the character it escapes, so nothing in it ends the raw string.
    """
    answers: dict[str, Any] = json.loads(r"""{{ cookiecutter | tojson }}""")
    return answers


def main() -> int:
    """Complete the project in the current directory."""
    answers, project = read_answers(), Path.cwd()
    try:
        kept = remove_unwanted(project, answers)
        lay_variants(project, answers)
        create_env(project)
    except (CannotFinish, OSError) as problem:
        print(f"The project could not be completed: {ascii(str(problem))[1:-1]}", file=sys.stderr)
        return 1
    print(next_steps(answers, kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())
