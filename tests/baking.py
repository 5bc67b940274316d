"""Generate projects for the tests, as a user would, but without the user's own configuration.

    bake(output_dir, **answers) -> Path                  in this process: fast, errors are exceptions
    copied(output_dir, **answers) -> Path                a copy of a project that was made once: faster
    cookiecutter_command(output_dir, *options, **answers)  the command line: exit code and output
    load_hook(name) -> module                            a hook as it stands in the repository, to unit-test

Answers are named after the questions in `cookiecutter.json`; what is not answered has its default.
"""

import atexit
import compileall
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
QUESTIONS: dict[str, Any] = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))


def bake(output_dir: Path, *, overwrite: bool = False, hooks: bool = True, **answers: str) -> Path:
    """Generate a project below `output_dir`.

    Args:
        output_dir: where the project directory is made; made itself if missing.
        overwrite: generate over an existing project, as `cookiecutter -f` does.
        hooks: whether hooks run; without, it is `--accept-hooks no`.
        answers: answers that differ from the defaults.

    Returns:
        The project directory.

    Raises:
        FailedHookException: a hook refused; what it said is on the standard error stream.
    """
    with tempfile.TemporaryDirectory() as user_dir:
        project = cookiecutter(
            str(ROOT),
            no_input=True,
            extra_context=answers,
            overwrite_if_exists=overwrite,
            output_dir=str(output_dir),
            default_config=user_config(Path(user_dir)),  # type: ignore[arg-type]  # a dict is documented to work
            accept_hooks=hooks,
        )
    return Path(project)


def copied(output_dir: Path, **answers: str) -> Path:
    """Copy a project below `output_dir` that this process makes once, with its key, and its modules compiled."""
    project = _made_once(**answers)
    return Path(shutil.copytree(project, output_dir / project.name))


@functools.cache
def _made_once(**answers: Any) -> Path:
    directory = tempfile.mkdtemp(prefix="project-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    project = bake(Path(directory), **answers)
    compileall.compile_dir(project, quiet=1)
    return project


def cookiecutter_command(
    output_dir: Path, *options: str, user_dir: Path | None = None, **answers: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command line on this checkout, as `bake` does. `user_dir` keeps what cookiecutter stores for a user."""
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, "config.yaml")
        config.write_text(json.dumps(user_config(user_dir or Path(scratch))), encoding="utf-8")
        arguments = ["--no-input", "--output-dir", str(output_dir), "--config-file", str(config), *options, str(ROOT)]
        return subprocess.run(
            [sys.executable, "-m", "cookiecutter", *arguments, *(f"{name}={value}" for name, value in answers.items())],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )


def user_config(user_dir: Path) -> dict[str, str]:
    """Return a configuration under which cookiecutter stores everything in `user_dir`."""
    return {"replay_dir": str(user_dir / "replay"), "cookiecutters_dir": str(user_dir / "cookiecutters")}


def load_hook(name: str) -> ModuleType:
    """Import `hooks/<name>.py` unrendered: all but `read_answers` works that way."""
    return load_module(ROOT / "hooks" / f"{name}.py")


def load_module(path: Path) -> ModuleType:
    """Import one file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(project: Path) -> set[str]:
    """Return the files below `project`, relative and with forward slashes."""
    return {path.relative_to(project).as_posix() for path in project.rglob("*") if not path.is_dir()}
