"""Code from the documents of a project, to be executed by tests as a reader would type it."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

DOCUMENTS = Path(__file__).parents[3] / "{{cookiecutter.project_slug}}" / "docs"


def code(document: str, name: str) -> str:
    """Return the block of Python below the mark `<!-- executed by tests: name -->`."""
    text = (DOCUMENTS / document).read_text(encoding="utf-8")
    (block,) = re.findall(rf"<!-- executed by tests: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    return str(block)


def executed(source: str, **given: Any) -> dict[str, Any]:
    """Execute code in a module of its own, which has the names `given` beforehand; return its names."""
    module = ModuleType(f"documented_{len(sys.modules)}")
    sys.modules[module.__name__] = module  # annotations are looked up there
    vars(module).update(given)
    exec(compile(source, "documented", "exec"), vars(module))  # noqa: S102  (from this repository)
    return vars(module)
