"""SECURITY.md promises only what a test proves, and every test file of an attack is behind a promise."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_chassis.events.log import KINDS, EventLog
from mcp_chassis.settings import Settings

from .support.project import PROJECT

DOCUMENT = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)))
FILES = sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / "tests" / "attacks").glob("test_*.py"))
RISKS = (
    "Command injection",
    "Tool poisoning",
    "Long-lived connections",
    "Privilege escalation",
    "Persistent context",
    "Server data takeover and spoofing",
)


def functions_of(path: str) -> set[str]:
    """Return the names of the test functions of a file, without importing it."""
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    assert name in functions_of(path)


STARTERS = {"running_server", "server_for", "server_process", "running_site", "Campaign", "PACKAGE"}
"""What starts a server in the tests; `PACKAGE` is what `python -m` starts as a process."""


def starts_a_server(path: str, name: str) -> bool:
    """Whether a test leads to one of `STARTERS`, through the functions of its file and through fixtures."""
    trees = [ast.parse((PROJECT / file).read_text(encoding="utf-8")) for file in ("tests/conftest.py", path)]
    shared, own = ({node.name: node for node in tree.body if hasattr(node, "name")} for tree in trees)
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
    section = DOCUMENT.partition("\n## Tests without a server\n")[2].partition("\n## ")[0]
    rows = [re.findall(r"\w+\.py|\btest_\w+", row) for row in section.split("\n- ")[1:]]
    whole, listed = set(rows[0]) - {"test_every_tool.py"}, {file: set(names) for file, *names in rows[1:]}
    without: dict[str, set[str]] = {}
    for path, name in NAMED:
        file = Path(path).name
        if not starts_a_server(path, name):
            without.setdefault(file, set()).add(name)
        else:
            assert file not in whole, f"{name} starts a server"
    assert without == listed | {file: without[file] for file in whole}


@pytest.mark.parametrize("path", FILES)
def test_a_file_of_attacks_is_behind_a_promise(path: str) -> None:
    assert path in {named for named, _ in NAMED}


@pytest.mark.parametrize("risk", RISKS)
def test_a_risk_is_described_and_every_defence_names_its_proof(risk: str) -> None:
    section = re.split(r"\n#+ ", DOCUMENT.partition(f"\n### {risk}\n")[2])[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 3
    assert [row for row in rows if not re.search(r"`tests/(?:attacks|replicas)/test_\w+\.py::test_\w+` \|$", row)] == []


def test_the_table_of_events_is_what_the_server_does() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+)", DOCUMENT, re.MULTILINE)
    events = EventLog()
    for kind, _ in rows:
        events.record(kind)
    severities = {entry["event"]: entry["severity"] for entry in events.recent()}
    assert severities == dict(rows) | {"tool_execution_failed": "high"}
    assert dict(rows).keys() == KINDS
    assert len(rows) == len(KINDS)


def test_every_named_setting_exists() -> None:
    known = {name.upper() for name in Settings.model_fields} | {"SECRETS_DIR"}
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", DOCUMENT))
    assert named <= known


def test_the_command_that_rotates_the_key_does_that_and_nothing_else(tmp_path: Path) -> None:
    (line,) = re.findall(r"^python -c .*secrets.*$", DOCUMENT, re.MULTILINE)
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
