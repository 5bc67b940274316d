"""Writes SCORECARD.md: every promise of a generated project's docs/promises.md, the tests behind it, and their results.

    python dev.py scorecard [--quick]

makes the default project and runs this with it. The promises are those of docs/promises.md, of every optional
package; `tests/promises.toml` names the tests. No number in the result is written by hand.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PACKAGES = ("mcp", "starlette", "uvicorn", "pydantic", "cookiecutter")
ROW = re.compile(r"^\| (.+) \| ([A-Z]{3}-\d\d) \|$")
LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
IN_PROJECT = "project:"
"""Marks a test that a project ships; all others are tests of this repository."""


class Promise(NamedTuple):
    """One row of docs/promises.md, and the tests that fail when it does not hold."""

    id: str
    risk: str
    text: str
    tests: list[str]


def main() -> int:
    """Run the tests and the benchmark, and write the file. Return 1 if a promise is not kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path, help="a project made with the default answers")
    parser.add_argument("--root", type=Path, default=HERE.parent, help="the template's repository")
    parser.add_argument("--quick", action="store_true", help="leave the benchmark out")
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    rows = promises(options.root)
    tests = sorted({test for row in rows for test in row.tests})
    results = run_tests(options.root, [test for test in tests if not test.startswith(IN_PROJECT)])
    shipped = [test.removeprefix(IN_PROJECT) for test in tests if test.startswith(IN_PROJECT)]
    results |= {IN_PROJECT + test: result for test, result in run_tests(options.project, shipped).items()}
    text = [*head(rows, results), *mutation(options.root), *table(rows, results)]
    if not options.quick:
        text += ["", "## Speed", "", "```", compare(options.project), "```"]
    target = options.to or options.root / "SCORECARD.md"
    target.write_text("\n".join(text) + "\n", encoding="utf-8")
    broken = [f"{test}: {result}" for test, result in results.items() if result != "passed"]
    broken += [f"{row.id}: tests/promises.toml names no test" for row in rows if not row.tests]
    print(f"{target.name}: {len(rows)} promises, {len(results)} tests, {len(broken)} not passed")
    for line in broken:
        print(f"  {line}")
    return int(bool(broken))


def promises(root: Path) -> list[Promise]:
    """Return every promise of the template's docs/promises.md, whichever answers it belongs to."""
    tests = tomllib.loads((root / "tests" / "promises.toml").read_text(encoding="utf-8"))
    found, risk = [], ""
    document = root / "{{cookiecutter.project_slug}}" / "docs" / "promises.md"
    for line in document.read_text(encoding="utf-8").splitlines():
        if line.startswith("#%"):  # a condition of the template
            continue
        if line.startswith("#"):
            risk = line.lstrip("# ")
        if row := ROW.match(line):
            text = LINK.sub(r"\1", row[1])  # a link leads elsewhere from here
            found.append(Promise(row[2], risk, text, tests.get(row[2], [])))
    return found


def run_tests(directory: Path, tests: list[str]) -> dict[str, str]:
    """Return the result of each test; of a test with parameters the worst counts."""
    results = dict.fromkeys(tests, "not run")
    if not tests:
        return results
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "report.xml"
        environment = {name: value for name, value in os.environ.items() if name != "API_KEY"}
        pytest = [sys.executable, "-m", "pytest", "-q", "--rootdir=.", "-m", ""]  # slow ones, too
        subprocess.run([*pytest, f"--junitxml={report}", *tests], cwd=directory, env=environment, check=False)
        cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314  (pytest wrote it)
        for case in cases:
            path = case.get("classname", "").replace(".", "/") + ".py"
            name = f"{path}::{case.get('name', '').partition('[')[0]}"
            worst = next((kind for kind in ("error", "failure", "skipped") if case.find(kind) is not None), "passed")
            if results.get(name) in {"not run", "passed"}:
                results[name] = worst
    return results


def head(rows: list[Promise], results: dict[str, str]) -> list[str]:
    """Return the beginning: what this is, when and with what."""
    passed = sum(result == "passed" for result in results.values())
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        "# Scorecard",
        "",
        f"The latest test result for every promise in a generated project's docs/promises.md. {len(rows)} promises, "
        f"{passed} of {len(results)} tests passed.",
        "",
        f"Written by `python dev.py scorecard` on {datetime.now(UTC):%Y-%m-%d}, with Python "
        f"{sys.version.partition(' ')[0]}, {versions}.",
    ]


def mutation(root: Path) -> list[str]:
    """Return the last recorded run of mutation tests, and where the mapping to standards is."""
    page = root / "docs" / "mutation.md"
    numbers = r" \| ".join([r"(\d+)"] * 5)
    row = re.search(rf"^\| all \| {numbers} \|$", page.read_text("utf-8") if page.exists() else "", re.MULTILINE)
    if row is None:
        return []
    return [
        "",
        f"Mutation tests: {row[3]} of {row[2]} faults were noticed, of {row[1]} possible; {row[4]} survive with a "
        f"reason and {row[5]} without ([docs/mutation.md](docs/mutation.md)). "
        "[docs/standards.md](docs/standards.md) maps promises to OWASP, CoSAI and the MCP security best practices.",
    ]


def table(rows: list[Promise], results: dict[str, str]) -> list[str]:
    """Return the promises, a table for each risk."""
    lines, risk = [], None
    for row in rows:
        if row.risk != risk:
            risk = row.risk
            lines += ["", f"## {risk}", "", "| Id | Promise | Test | Result |", "| --- | --- | --- | --- |"]
        names = "<br>".join(f"`{test.removeprefix('tests/chassis/')}`" for test in row.tests) or "none"
        outcomes = "<br>".join(results[test] for test in row.tests) or "no test"
        lines.append(f"| {row.id} | {row.text} | {names} | {outcomes} |")
    return lines


def compare(project: Path) -> str:
    """Return what the comparison with the bare SDK prints."""
    command = [sys.executable, str(HERE / "compare.py"), str(project), "--quick"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
