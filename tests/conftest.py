"""Fixtures that several tests share."""

from pathlib import Path

import pytest
from baking import bake, load_hook


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: one that starts last keeps the other processes waiting."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
