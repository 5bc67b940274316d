"""The path of a newcomer, as the README has it: `new tool`, its test, the lock, a call by the official client."""

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import anyio
import httpx2
import pytest
from baking import TEMPLATE, copied, load_module
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent

import dev
from mcp_chassis.testing.running import free_port

SLUG = "secure-mcp-server"
PACKAGE = "secure_mcp_server"
NEW = load_module(TEMPLATE / "scripts" / "new.py")
SCRIPT = (sys.executable, "scripts/new.py")
"""What `new` runs, without the import of the server before it."""
QUIET = ("-q", "-p", "no:cacheprovider")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with the project's command and pytest, as an activated virtual environment has it."""
    directory = tmp_path_factory.mktemp("bin")
    for name, module in ((SLUG, PACKAGE), ("pytest", "pytest")):
        program = directory / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n', encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


def run(project: Path, path: str, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=project, env=environment(path), capture_output=True, encoding="utf-8", check=False, timeout=120
    )


def environment(path: str, **more: str) -> dict[str, str]:
    source = os.pathsep.join(("src", "."))
    return {**os.environ, "PATH": path, "PYTHONPATH": source, **more}


def commands(readme: str) -> list[tuple[str, str]]:
    """Return the commands below "Add a tool", each with the output that is shown."""
    block = re.search(r"^## Add a tool$.*?^```\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert block is not None
    return [(line, shown) for line, _, shown in (part.partition("\n") for part in block[1].split("$ ")[1:])]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the commands are those of a POSIX shell")
@pytest.mark.parametrize("examples", ["yes", "no"])
def test_the_commands_of_the_readme_lead_to_a_tool_that_a_client_can_call(
    examples: str, path: str, tmp_path: Path
) -> None:
    project = copied(tmp_path, examples=examples)
    readme = (project / "README.md").read_text(encoding="utf-8")
    clients = (project / "docs" / "clients.md").read_text(encoding="utf-8")
    *first, (last, _) = commands(readme)
    for command, shown in first:
        done = run(project, path, *command.split())
        assert (done.returncode == 0) is ("tools check" not in command), done.stdout + done.stderr
        assert shown in done.stdout + done.stderr
    assert last == f"{SLUG} serve"
    port = str(free_port())
    process = subprocess.Popen(last.split(), cwd=project, env=environment(path, PORT=port), stderr=subprocess.DEVNULL)
    try:
        key = dev.read_env(project / ".env")["API_KEY"]
        assert anyio.run(called, f"http://127.0.0.1:{port}", key) == "Ada Lovelace"
        (program,) = re.findall(r"<!-- executed by tests: client -->\n```python\n(.*?)```", clients, re.DOTALL)
        program = program.replace("http://127.0.0.1:8080/", f"http://127.0.0.1:{port}/")
        printed = subprocess.check_output(
            [sys.executable, "-c", program], env=environment(path, API_KEY=key), encoding="utf-8", timeout=60
        )
        assert "Hello, World!" in printed
        (program,) = re.findall(r"<!-- executed by tests: stdio client -->\n```python\n(.*?)```", clients, re.DOTALL)
        variables = {"PATH": path, "PYTHONPATH": str(project / "src")}  # the client passes on no others by itself
        program = program.replace('args=["stdio"])', f'args=["stdio"], env={variables!r})')
        printed = subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, encoding="utf-8", timeout=60)
        assert "Hello, World!" in printed
    finally:
        process.terminate()
        assert process.wait(20) == 0


async def called(url: str, key: str) -> str:
    """Return what the tool answers the official client."""
    deadline = time.monotonic() + 30
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http:
        while True:
            try:
                await http.get(f"{url}/readyz")
                break
            except httpx2.TransportError:
                assert time.monotonic() < deadline
                await anyio.sleep(0.1)
        async with Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client:
            (block,) = (await client.call_tool("echo_text", {"value": "Ada Lovelace"})).content
            assert isinstance(block, TextContent)
            return block.text


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that tests may add to."""
    return copied(tmp_path_factory.mktemp("checkout"), examples="no")


def test_what_is_made_is_linted_formatted_typed_and_its_tests_pass(path: str, tmp_path: Path) -> None:
    project = copied(tmp_path, examples="no")
    made = []
    for kind, name in (("tool", "echo_text"), ("tool", "a" * 50), ("resource", "opening_hours"), ("prompt", "explain")):
        done = run(project, path, SLUG, "new", kind, name)
        assert done.returncode == 0, done.stderr
        made += re.findall(r"^    pytest (\S+)$", done.stdout, re.MULTILINE)
    for module, *arguments in (("ruff", "check", "--no-cache"), ("ruff", "format", "--no-cache", "--check"), ("mypy",)):
        done = run(project, path, sys.executable, "-m", module, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run(project, path, "pytest", *QUIET, *made)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


@pytest.mark.parametrize(("kind", "needs"), [("tool", True), ("resource", False), ("prompt", False)])
def test_only_a_tool_needs_the_lock(kind: str, needs: bool, path: str, tmp_path: Path) -> None:
    done = run(copied(tmp_path, examples="no"), path, SLUG, "new", kind, "opening_hours")
    assert done.returncode == 0, done.stderr
    assert (f"{SLUG} tools lock" in done.stdout) is needs
    assert (f"A {kind} needs no lock." in done.stdout) is not needs


LISTINGS = {
    "one line": "TOOLS = (hello_world,)",
    "empty": "TOOLS = ()",
    "typed": "TOOLS: tuple[object, ...] = (hello_world,)",
    "no comma": "TOOLS = (\n    hello_world,\n    hello_world\n)",
    "many lines": "TOOLS = (\n    hello_world,  # the first, (really)\n    # more to come,\n)",
    "closed behind the last": "TOOLS = (hello_world,\n    hello_world)",
    "with a comment and more below": "# Zo\u00eb's tools\nTOOLS = (hello_world,)  # all of them\n\nOTHERS = (1,)",
}


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_the_tuple_may_be_written_in_any_way(listing: str, end: str, checkout: Path) -> None:
    source = f'"""Tools."""\n\nfrom .hello import hello_world\n\n{listing}\n'.replace("\n", end)
    listed = NEW._listed(source, "TOOLS", "echo_text", "from .echo_text import echo_text\n", "")
    found: dict[str, object] = {}
    body = listed.replace("from .hello import hello_world", "hello_world = 1")
    exec(body.replace("from .echo_text import echo_text", "echo_text = 2"), found)  # noqa: S102
    entries = found["TOOLS"]
    assert isinstance(entries, tuple)
    assert entries[-1] == 2
    assert len(entries) == listing.partition("=")[2].partition("OTHERS")[0].count("hello_world") + 1
    assert listed.count("\n") == listed.count(end)
    for line in listing.splitlines():
        assert line.partition("#")[2] in listed


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_declaration_goes_above_the_tuple_and_the_comment_of_the_tuple(end: str) -> None:
    source = '"""Prompts."""\n\nimport re\n\n# Listed\n# here.\nPROMPTS = ()\n'.replace("\n", end)
    listed = NEW._listed(source, "PROMPTS", "one", "import os\n", "def one() -> str:\n    return ''\n")
    expected = '"""Prompts."""\n\nimport re\nimport os\n\n\ndef one() -> str:\n    return \'\'\n\n\n# Listed\n# here.\n'
    assert listed == (expected + "PROMPTS = (one,)\n").replace("\n", end)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "words of a-z") for name in ("Initials", "get-orders", "9lives", "_x", "a__b", "x" * 51, "", "../x")),
        *((name, "keyword") for name in ("class", "match")),
        *((name, "a device on Windows") for name in ("con", "nul", "com1")),
        *((name, "of Python") for name in ("list", "type")),
        *((name, "module of Python") for name in ("json", "pydantic", "mcp", "mcp_chassis", PACKAGE, "tests")),
        *((name, "is a name in") for name in ("hello_world", "sanitize_input", "tool", "main")),
        ("hello", "exists"),
    ],
)
def test_a_bad_name_is_refused_with_a_sentence_and_nothing_changes(
    name: str, reason: str, path: str, checkout: Path
) -> None:
    before = contents(checkout)
    done = run(checkout, path, *SCRIPT, "tool", name)
    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.endswith(("Choose another name.\n", "or move the file away.\n"))
    assert done.stderr.count("\n") == 1
    assert contents(checkout) == before


def test_a_test_that_exists_is_not_overwritten_and_nothing_else_is_made(path: str, tmp_path: Path) -> None:
    project = copied(tmp_path, examples="no")
    (project / "tests" / "test_prompt_explain.py").write_text("mine", encoding="utf-8")
    before = contents(project)
    done = run(project, path, *SCRIPT, "prompt", "explain")
    assert (done.returncode, contents(project)) == (1, before)
    assert "tests/test_prompt_explain.py exists" in done.stderr.replace("\\", "/")


def test_a_listing_that_is_no_tuple_is_left_alone(path: str, tmp_path: Path) -> None:
    project = copied(tmp_path, examples="no")
    listing = project / "src" / PACKAGE / "tools" / "__init__.py"
    listing.write_text("from .hello import hello_world\n\nTOOLS = [hello_world]\n", encoding="utf-8")
    before = contents(project)
    done = run(project, path, *SCRIPT, "tool", "echo_text")
    assert (done.returncode, contents(project)) == (1, before)
    assert "TOOLS is not a tuple in parentheses" in done.stderr


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("broken.py", b"def f(:\n", "cannot be read as Python"),
        ("broken.py", b"a = '\xe9'\n", "cannot be read as Python"),
        ("broken.py", b"a = 1\0\n", "cannot be read as Python"),
        ("tools/__init__.py", b"# \xe9\nTOOLS = ()\n", "tools/__init__.py"),
        ("tools/__init__.py", b"# coding: latin-1\n# \xe9\nTOOLS = ()\n", "is not UTF-8"),
        ("tools/__init__.py", b"TOOLS = (\n", "cannot be read as Python"),
        ("../second/__init__.py", b"", "src/ holds 2 packages"),
    ],
)
def test_a_package_that_cannot_be_read_is_left_alone_with_a_sentence(
    file: str, content: bytes, reason: str, path: str, tmp_path: Path
) -> None:
    project = copied(tmp_path, examples="no")
    broken = project / "src" / PACKAGE / file
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(content)
    before = contents(project)
    done = run(project, path, *SCRIPT, "tool", "initials")
    assert (done.returncode, contents(project)) == (1, before)
    assert reason in done.stderr.replace("\\", "/")
    assert done.stderr.count("\n") == 1


def test_an_installed_wheel_says_that_the_checkout_is_needed(path: str, checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout / "src", tmp_path / "site" / "src")
    done = run(tmp_path / "site", path, SLUG, "new", "tool", "echo_text")
    assert done.returncode == 1
    assert "works in the project's checkout" in done.stderr


def contents(project: Path) -> dict[str, bytes]:
    """Return every file but what Python and the tools keep."""
    files = (file for file in project.rglob("*") if file.is_file() and "cache" not in str(file.relative_to(project)))
    return {file.relative_to(project).as_posix(): file.read_bytes() for file in files}
