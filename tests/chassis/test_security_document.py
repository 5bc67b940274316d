"""A project promises only what a test proves: each id has tests, and each file of attacks is behind an id."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from baking import ROOT

from mcp_chassis.events.log import KINDS, EventLog
from mcp_chassis.settings import all_fields

from .support.project import PROJECT

PAGES = {
    name: (PROJECT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("promises", "events", "runbook", "threat-model")
}
DOCUMENT, EVENTS, RUNBOOK = PAGES["promises"], PAGES["events"], PAGES["runbook"]
PROMISES: dict[str, Any] = tomllib.loads((ROOT / "tests" / "promises.toml").read_text(encoding="utf-8"))
WITHOUT_SERVER: dict[str, list[str]] = PROMISES.pop("without_server")
NAMED = sorted({test for tests in PROMISES.values() for test in tests})
ATTACKS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/chassis/attacks").glob("test_*.py"))
SHIPPED_ATTACKS = sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / "tests/attacks").glob("test_*.py"))
RISKS = {
    "Command injection": "INJ",
    "Tool poisoning": "POI",
    "Long-lived connections": "CON",
    "Privilege escalation": "PRV",
    "Persistent context": "CTX",
    "Server data takeover and spoofing": "DAT",
}


def place_of(test: str) -> tuple[Path, str]:
    """Return the file and the function that a test in promises.toml names."""
    path, _, name = test.removeprefix("project:").partition("::")
    return (PROJECT if test.startswith("project:") else ROOT) / path, name


def functions_of(path: Path) -> dict[str, ast.AST]:
    """Return what a file defines, by name, without importing it."""
    return {node.name: node for node in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(node, "name")}


def rows_of(risk: str) -> list[str]:
    """Return the rows of the table below the heading of a risk."""
    section = re.split(r"\n#+ ", DOCUMENT.partition(f"\n## {risk}\n")[2])[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_every_promise_has_tests_and_every_test_a_promise() -> None:
    ids = re.findall(r"^\| .+ \| ([A-Z]{3}-\d\d) \|$", DOCUMENT, re.MULTILINE)
    assert ids == list(PROMISES)
    assert all(PROMISES.values())


@pytest.mark.parametrize("risk", RISKS)
def test_a_risk_has_promises_and_every_promise_an_id(risk: str) -> None:
    rows = rows_of(risk)
    assert len(rows) >= 3
    assert [row for row in rows if not re.search(rf" \| {RISKS[risk]}-\d\d \|$", row)] == []


@pytest.mark.parametrize("test", NAMED)
def test_a_named_test_exists(test: str) -> None:
    path, name = place_of(test)
    assert name.startswith("test_")
    assert name in functions_of(path)


@pytest.mark.parametrize("path", ATTACKS)
def test_a_file_of_attacks_is_behind_a_promise(path: str) -> None:
    assert any(test.startswith(f"{path}::") for test in NAMED)


@pytest.mark.parametrize("path", SHIPPED_ATTACKS)
def test_an_attack_that_a_project_ships_is_behind_a_promise(path: str) -> None:
    assert any(test.startswith(f"project:{path}::") for test in NAMED)


STARTERS = {"running_server", "server_for", "server_process", "running_site", "Campaign", "PACKAGE", "PROGRAM"}
"""What starts a server in the tests; `PACKAGE` and `PROGRAM` are what Python starts as a process."""


def starts_a_server(test: str) -> bool:
    """Whether a test leads to one of `STARTERS`, through the functions of its file and through fixtures."""
    path, name = place_of(test)
    tests = PROJECT / "tests" if test.startswith("project:") else ROOT / "tests" / "chassis"
    shared, own = functions_of(tests / "conftest.py"), functions_of(path)
    reached: set[str] = set()
    names = {name}
    while names := names - reached:
        reached |= names
        nodes = [node for one in names if one in own or one in shared for node in ast.walk(own.get(one) or shared[one])]
        fixtures = {node.arg for node in nodes if isinstance(node, ast.arg)}
        called = {node.id for node in nodes if isinstance(node, ast.Name)} - shared.keys()
        names = fixtures | called
    return not STARTERS.isdisjoint(reached)


def test_the_tests_without_a_server_are_listed_and_no_others() -> None:
    listed = {f"{path}::{name}" for path, names in WITHOUT_SERVER.items() for name in names}
    assert listed == {test for test in NAMED if not starts_a_server(test)}


def test_most_tests_start_a_server_as_the_document_says() -> None:
    assert "Most of these tests attack a running server" in " ".join(DOCUMENT.split())
    assert sum(map(starts_a_server, NAMED)) > 0.75 * len(NAMED)


def test_the_table_of_events_is_what_the_server_does() -> None:
    section = EVENTS.partition("\n## Security events\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+)", section, re.MULTILINE)
    events = EventLog()
    for kind, _ in rows:
        events.record(kind)
    severities = {entry["event"]: entry["severity"] for entry in events.recent()}
    assert severities == dict(rows) | {"tool_execution_failed": "high"}
    assert dict(rows).keys() == KINDS
    assert len(rows) == len(KINDS)


def test_every_logger_is_in_the_table() -> None:
    section = EVENTS.partition("\n## Logs\n")[2].partition("\n## ")[0]
    listed = {
        name for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    sources = (path.read_text(encoding="utf-8") for path in (PROJECT / "src/mcp_chassis").rglob("*.py"))
    made = {name for text in sources for name in re.findall(r'get_logger\("(\w+)"\)', text)}
    assert made
    assert made <= listed


def test_every_named_setting_exists() -> None:
    known = {name.upper() for name in all_fields()} | {"SECRETS_DIR"}
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", "".join(PAGES.values())))
    assert named <= known


def test_the_command_that_rotates_the_key_does_that_and_nothing_else(tmp_path: Path) -> None:
    (line,) = re.findall(r"^python -c .*secrets.*$", RUNBOOK, re.MULTILINE)
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")
    before = example.replace("\nAPI_KEY=\n", "\nAPI_KEY=the-old-key\n")
    (tmp_path / ".env").write_text(before, encoding="utf-8")
    (tmp_path / ".env").chmod(0o600)
    done = subprocess.run(
        [sys.executable, *shlex.split(line)[1:]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    after = (tmp_path / ".env").read_text(encoding="utf-8")
    (key,) = re.findall(r"^API_KEY=(mcp_[\w-]{43})$", after, re.MULTILINE)
    assert after == before.replace("the-old-key", key)
    assert done.stdout + done.stderr == ""
    if sys.platform != "win32":
        assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
