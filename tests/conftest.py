"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from baking import bake, load_hook
from jinja2 import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.scheduler import LoadScopeScheduling


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, those with containers before all: one that starts last keeps the other processes waiting."""
    items.sort(
        key=lambda item: (item.get_closest_marker("slow") is None, not item.nodeid.startswith("tests/containers/"))
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep together what shares a server or an engine; the mark `xdist_group` has no effect with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file.startswith("tests/containers/"):
                return "containers"
            return file if file.startswith("tests/chassis/") else nodeid

    config.option.loadscopereorder = False  # long tests are first, see above
    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def _typed_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let mypy keep for all projects what it finds of their dependencies."""
    base = tmp_path_factory.getbasetemp()
    os.environ["MYPY_CACHE_DIR"] = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "mypy")


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    """Let Jinja compile each template once for all projects: that is most of the time that rendering takes."""
    compile_template: Any = Environment.compile
    kept: dict[Any, Any] = {}

    def compile_once(self: Environment, source: Any, name: Any = None, filename: Any = None, **options: Any) -> Any:
        key = (source, name, filename, self.line_statement_prefix, self.trim_blocks, *options.items())
        if not isinstance(source, str):
            return compile_template(self, source, name, filename, **options)
        if key not in kept:
            kept[key] = compile_template(self, source, name, filename, **options)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "compile", compile_once)
        yield


@pytest.fixture(scope="session")
def default_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that all defaults give. Read-only: every test of the session sees the same one."""
    return bake(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="session")
def default_answers() -> dict[str, str]:
    """The answers that all defaults give. Read-only: `{**default_answers, ...}` makes a changed copy."""
    pre_gen = load_hook("pre_gen_project")
    choices = {name: choices[0] for name, choices in pre_gen.CHOICES.items()}
    return {question.name: question.fallback for question in pre_gen.QUESTIONS} | choices | {"trusted_origins": ""}
