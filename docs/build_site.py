#!/usr/bin/env python3
"""Build the documentation as a site: `python docs/build_site.py [DIRECTORY]`, strict, from the files of the repository.

The pages are those of the repository and those of a generated project with every optional package. They are copied to a
directory of their own, because a project's pages are a template until they are rendered.
"""

import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import dev  # noqa: E402  (it stands beside this directory)

REPOSITORY = "https://github.com/org/cookiecutter-secure-mcp/blob/main"
GROUPS = ("*.md", "docs/*.md", "docs/decisions/*.md", "benchmarks/README.md")
PROJECT_GROUPS = ("README.md", "SECURITY.md", "docs/*.md", "deploy/**/README.md")
IMAGES = (".png", ".svg")
_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")


def write_sources(project: Path, target: Path) -> list[str]:
    """Copy the pages below `target`, those of the project below `project/`; return their paths.

    A link to a file that is no page becomes a link to the repository.
    """
    pages: dict[str, Path] = {}
    for root, groups, prefix in ((ROOT, GROUPS, ""), (project, PROJECT_GROUPS, "project/")):
        for group in groups:
            for path in sorted(root.glob(group)):
                pages[prefix + path.relative_to(root).as_posix()] = path
    for name, path in pages.items():
        page = target / name
        page.parent.mkdir(parents=True, exist_ok=True)
        text = _LINK.sub(partial(_linked, name, path, pages), path.read_text("utf-8"))
        page.write_text(text, "utf-8")
    for image in (path for path in ROOT.glob("docs/*") if path.suffix in IMAGES):
        shutil.copy(image, target / "docs" / image.name)
    (target / "index.md").write_text((target / "README.md").read_text("utf-8"), "utf-8")
    return [*pages, "index.md"]


def _linked(name: str, path: Path, pages: dict[str, Path], link: re.Match[str]) -> str:
    start, target, anchor = link[1], link[2], link[3] or ""
    if "://" in target or target.startswith(("mailto:", "#")) or target.endswith(IMAGES):
        return link[0]
    found = (path.parent / target).resolve()
    if found in {page.resolve() for page in pages.values()}:
        return link[0]
    if not found.exists():
        raise dev.Failure(f"{name}: the link {target} leads nowhere.")
    template = "/{{cookiecutter.project_slug}}" if name.startswith("project/") else ""
    root = ROOT if not template else path.parents[name.count("/") - 1]
    return f"{start}{REPOSITORY}{template}/{found.relative_to(root).as_posix()}{anchor})"


def build(directory: Path) -> Path:
    """Build the site below a directory and return where it is.

    Raises:
        Failure: if a link leads nowhere or the generator warns of anything.
    """
    checkout = dev.Checkout(ROOT)
    shutil.rmtree(directory, ignore_errors=True)
    sources = directory / "sources"
    answers = dev.EVERY_ROOM | {"examples": "full", "deployment": "kubernetes"}
    with dev.freshly_rendered(checkout, Path(sys.executable), answers) as project:
        write_sources(project, sources)
    settings = (ROOT / "docs" / "site.yml").read_text(encoding="utf-8")
    (directory / "mkdocs.yml").write_text(f"{settings}docs_dir: sources\nsite_dir: html\n", encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(directory / "mkdocs.yml")]
    done = subprocess.run(command, cwd=directory, capture_output=True, encoding="utf-8", check=False)  # noqa: S603
    if done.returncode != 0:
        raise dev.Failure(f"The site cannot be built:\n{done.stdout}{done.stderr}")
    return directory / "html"


if __name__ == "__main__":
    try:
        place = build(Path(sys.argv[1]) if sys.argv[1:] else ROOT / ".scratch" / "site")
    except dev.Failure as error:
        sys.exit(str(error))
    sys.stdout.write(f"The site is in {place}. Show it: python -m http.server --directory {place}\n")
