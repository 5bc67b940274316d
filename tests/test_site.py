"""The documentation as a site: it builds without a warning, and it has every page."""

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from baking import bake

import dev

ROOT = Path(dev.__file__).parent
NOT_SHOWN = {"README.md", "AGENTS.md"}  # the former is the site's first page; the latter is for programs


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "build_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with every page."""
    answers = dev.EVERY_ROOM | {"examples": "full", "deployment": "kubernetes"}
    return bake(tmp_path_factory.mktemp("site"), hooks=True, overwrite=False, **answers)


def _in_navigation(entries: list[Any]) -> set[str]:
    pages: set[str] = set()
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            pages |= _in_navigation(value) if isinstance(value, list) else {value}
    return pages


def test_the_site_builds_without_a_warning(site: ModuleType, tmp_path: Path) -> None:
    html = site.build(tmp_path / "site")
    start = (html / "index.html").read_text(encoding="utf-8")
    assert "cookiecutter-secure-mcp" in start
    assert (html / "project" / "docs" / "settings" / "index.html").is_file()
    images = re.findall(r'<img [^>]*src="([^":]+)"', start)
    assert {Path(image).name for image in images} >= {"first-minute.svg", "inspector.png"}
    assert all((html / image).is_file() for image in images)
    assert "{{" not in re.sub(r"<(code|pre).*?</\1>", "", start, flags=re.S), "a page of a project is not rendered"


def test_every_page_is_in_the_navigation(site: ModuleType, project: Path, tmp_path: Path) -> None:
    pages = set(site.write_sources(project, tmp_path)) - NOT_SHOWN
    settings = yaml.safe_load((ROOT / "docs" / "site.yml").read_text(encoding="utf-8"))
    assert _in_navigation(settings["nav"]) == pages


def test_a_link_that_leads_nowhere_is_an_error(site: ModuleType, project: Path, tmp_path: Path) -> None:
    copied = tmp_path / "project"
    shutil.copytree(project, copied)
    (copied / "docs" / "tools.md").write_text("[a page](no-such-page.md)\n", encoding="utf-8")
    with pytest.raises(dev.Failure, match=r"project/docs/tools\.md: the link no-such-page\.md leads nowhere"):
        site.write_sources(copied, tmp_path / "sources")


def test_a_link_to_a_file_that_is_no_page_leads_to_the_repository(
    site: ModuleType, project: Path, tmp_path: Path
) -> None:
    site.write_sources(project, tmp_path)
    start = (tmp_path / "index.md").read_text(encoding="utf-8")
    assert f"({site.REPOSITORY}/LICENSE)" in start
    assert "(LICENSE)" not in start
