"""Writes SCORECARD.md: every promise of a generated project's SECURITY.md, the test behind it, and how that went.

    python dev.py scorecard [--quick]

makes the default project and runs this on it. No number in the result is written by hand.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
RESULT = HERE.parent / "SCORECARD.md"
PACKAGES = ("mcp", "starlette", "uvicorn", "pydantic", "cookiecutter")
TEST = re.compile(r"`(tests/[\w/]+\.py::\w+)`")


def main() -> int:
    """Run the tests and the benchmark, and write the file. Return 1 if a promise is not kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("--quick", action="store_true", help="leave the benchmark out")
    parser.add_argument("--to", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = promises(options.project)
    results = run_tests(options.project, sorted({test for _, _, tests in rows for test in tests}))
    text = [*head(rows, results), *table(rows, results)]
    if not options.quick:
        text += ["", "## Speed", "", "```", compare(options.project), "```"]
    options.to.write_text("\n".join(text) + "\n", encoding="utf-8")
    broken = [test for test, result in results.items() if result != "passed"]
    print(f"{options.to.name}: {len(rows)} promises, {len(results)} tests, {len(broken)} not passed")
    for test in broken:
        print(f"  {test}: {results[test]}")
    return int(bool(broken))


def promises(project: Path) -> list[tuple[str, str, list[str]]]:
    """Return risk, promise and tests of every row in SECURITY.md that names a test."""
    found, risk = [], ""
    for line in (project / "SECURITY.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            risk = line.lstrip("# ")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and (tests := TEST.findall(cells[-1])):
            found.append((risk, cells[0], tests))
    return found


def run_tests(project: Path, tests: list[str]) -> dict[str, str]:
    """Return how each test went; of a test with parameters the worst counts."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        environment = {name: value for name, value in os.environ.items() if name != "API_KEY"}
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", f"--junitxml={report}", *tests]
        subprocess.run(command, cwd=project, env=environment, check=False)
        cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314  (pytest wrote it)
        results = dict.fromkeys(tests, "not run")
        for case in cases:
            path = case.get("classname", "").replace(".", "/") + ".py"
            name = f"{path}::{case.get('name', '').partition('[')[0]}"
            worst = next((kind for kind in ("error", "failure", "skipped") if case.find(kind) is not None), "passed")
            if results.get(name) in {"not run", "passed"}:
                results[name] = worst
    return results


def head(rows: list[tuple[str, str, list[str]]], results: dict[str, str]) -> list[str]:
    """Return the beginning: what this is, when and with what."""
    passed = sum(result == "passed" for result in results.values())
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        "# Scorecard",
        "",
        f"Every promise of a generated project, and the test that fails without it. {len(rows)} promises, "
        f"{passed} of {len(results)} tests passed.",
        "",
        f"Written by `python dev.py scorecard` on {datetime.now(UTC):%Y-%m-%d}, with Python "
        f"{sys.version.partition(' ')[0]}, {versions}.",
    ]


def table(rows: list[tuple[str, str, list[str]]], results: dict[str, str]) -> list[str]:
    """Return the promises, a table for each risk."""
    lines, risk = [], None
    for heading, promise, tests in rows:
        if heading != risk:
            risk = heading
            lines += ["", f"## {risk}", "", "| Promise | Test | Result |", "| --- | --- | --- |"]
        names = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in tests)
        lines.append(f"| {promise} | {names} | {'<br>'.join(results[test] for test in tests)} |")
    return lines


def compare(project: Path) -> str:
    """Return what the comparison with the bare SDK prints."""
    command = [sys.executable, str(HERE / "compare.py"), str(project), "--quick"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
