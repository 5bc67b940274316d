"""Make a tool, a resource or a prompt that works, its listing and its test: `python scripts/new.py tool NAME`.

The server's command `new` does the same. It never overwrites a file. Standard library only.
"""

import argparse
import ast
import builtins
import keyword
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CHASSIS = "mcp_chassis"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_NAME = 50  # characters
_DEVICES = frozenset(  # of Windows, where no file can have their names
    {"con", "prn", "aux", "nul", *(device + str(n) for device in ("com", "lpt") for n in range(1, 10))}
)


@dataclass(frozen=True)
class _Kind:
    """What one kind consists of. In its texts NAME is the name, and TITLE and URI are made of it.

    Args:
        listing: the file and the tuple that list it; files are relative to the team's package.
        test: the file of its test, relative to the project.
        imports: what its declaration needs.
        declaration: the function.
        call: what the test sends, and what it expects; with the imports that this needs.
        file: its own file; without one the declaration goes into the listing's.
    """

    listing: tuple[str, str]
    test: str
    imports: str
    declaration: str
    call: tuple[str, str]
    file: str | None = None


_BOUNDED = "from typing import Annotated\n\nfrom pydantic import Field\n\n"
_SINK = "from mcp_chassis.sinks import sanitize_input\n"
_TEST = '''"""The KIND `NAME`, called by the official client."""

import pytest
IMPORTS
pytestmark = pytest.mark.anyio


async def test_NAME_answers_a_client(server: RunningServer) -> None:
    async with server.client() as client:
CALL'''
_RUNNING = "\nfrom mcp_chassis.testing.running import RunningServer"

_KINDS = {
    "tool": _Kind(
        file="tools/NAME.py",
        listing=("tools/__init__.py", "TOOLS"),
        test="tests/tools/test_NAME.py",
        imports=f"{_BOUNDED}from mcp_chassis import tool\n{_SINK}",
        declaration='''@tool(title="TITLE", read_only=True, open_world=False)
async def NAME(
    value: Annotated[str, Field(max_length=200, description="A short text")],
) -> str:
    """Return the text as it is."""
    return sanitize_input(value)
''',
        call=(
            f"{_RUNNING}, text\n",
            """        result = await client.call_tool("NAME", {"value": "Ada Lovelace"})
        assert text(result) == "Ada Lovelace"
""",
        ),
    ),
    "resource": _Kind(
        listing=("resources.py", "RESOURCES"),
        test="tests/test_resource_NAME.py",
        imports="from mcp_chassis import resource\n",
        declaration='''@resource("URI://text", title="TITLE")
def NAME() -> str:
    """Return a text."""
    return "TITLE"
''',
        call=(
            f"from mcp.types import TextResourceContents\n{_RUNNING}\n",
            """        (content,) = (await client.read_resource("URI://text")).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == "TITLE"
""",
        ),
    ),
    "prompt": _Kind(
        listing=("prompts.py", "PROMPTS"),
        test="tests/test_prompt_NAME.py",
        imports=f"{_BOUNDED}from mcp_chassis import prompt\n{_SINK}",
        declaration='''@prompt(title="TITLE")
def NAME(
    topic: Annotated[str, Field(max_length=200, description="What it is about")],
) -> str:
    """Ask the model about a topic."""
    return f"What should a newcomer know about {sanitize_input(topic)}?"
''',
        call=(
            f"from mcp.types import TextContent\n{_RUNNING}\n",
            """        (message,) = (await client.get_prompt("NAME", {"topic": "tea"})).messages
        assert isinstance(message.content, TextContent)
        assert message.content.text == "What should a newcomer know about tea?"
""",
        ),
    ),
}


class _Refused(Exception):
    """Nothing was written. The text says why, and what to do."""


def main() -> int:
    """Write the files and say what to do next."""
    command = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    parser = argparse.ArgumentParser(
        prog=f"{command} new", description="Make a tool, a resource or a prompt, with its listing and its test."
    )
    parser.add_argument("kind", choices=tuple(_KINDS))
    parser.add_argument("name", metavar="NAME", help="the function's name, such as open_orders")
    options = parser.parse_args()
    try:
        made, listing = _write(options.kind, options.name)
    except (_Refused, OSError) as error:
        print(f"new {options.kind}: {error}", file=sys.stderr)
        return 1
    steps = [f"pytest {made[-1]}"]
    if options.kind == "tool":
        steps.append(f"{command} tools lock")
    print(f"Made {' and '.join(made)}, listed in {listing}.")
    print(f"Now write the {options.kind} and what its test expects:", "", *(f"    {step}" for step in steps), sep="\n")
    if options.kind != "tool":
        print("", f"A {options.kind} needs no lock.", sep="\n")
    return 0


def _write(name_of_kind: str, name: str) -> tuple[list[str], str]:
    """Write the files. Return those that are new, the test last, and the one that lists it."""
    kind = _KINDS[name_of_kind]
    packages = [path.parent for path in (PROJECT / "src").glob("*/__init__.py") if path.parent.name != CHASSIS]
    if len(packages) != 1:
        raise _Refused(f"src/ holds {len(packages)} packages beside {CHASSIS}. It must be one: move the others away.")
    package = packages[0]
    if fault := _fault(name):
        raise _Refused(f"{name!a} {fault}. Choose another name.")
    words = {"NAME": name, "TITLE": name.replace("_", " ").capitalize(), "URI": name.replace("_", "-")}
    declaration = _filled(kind.declaration, words)
    test = _TEST.replace("CALL", kind.call[1]).replace("IMPORTS", kind.call[0]).replace("KIND", name_of_kind)
    new = {PROJECT / _filled(kind.test, words): _filled(test, words)}
    listing, variable = package / kind.listing[0], kind.listing[1]
    added = (kind.imports, declaration)
    if kind.file is not None:
        added = (f"from .{name} import {name}\n", "")
        text = f'"""The {name_of_kind} `{name}`."""\n\n{kind.imports}\n\n{declaration}'
        new = {package / _filled(kind.file, words): text, **new}
    if exists := [path for path in new if path.exists()]:
        raise _Refused(f"{_relative(exists[0])} exists. Choose another name, or move the file away.")
    if name in _names(kind.imports + kind.declaration):
        raise _Refused(f"`{name}` is a name in the new file itself. Choose another name.")
    for path in (listing, *sorted(package.rglob("*.py"))):
        try:
            names = _names(path.read_bytes(), anywhere=path == listing)
        except (SyntaxError, ValueError) as error:  # a null byte
            raise _Refused(f"{_relative(path)} cannot be read as Python: {error}. Repair it first.") from None
        if name in names:
            raise _Refused(f"`{name}` is a name in {_relative(path)} already. Choose another name.")
    try:
        source = listing.read_bytes().decode()
    except UnicodeDecodeError:
        raise _Refused(f"{_relative(listing)} is not UTF-8. Save it as UTF-8.") from None
    listed = _listed(source, variable, name, *added)
    for path, text in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    listing.write_bytes(listed.encode())
    _format(listing)
    return [_relative(path) for path in new], _relative(listing)


def _relative(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub("|".join(words), lambda match: words[match[0]], text)


def _fault(name: str) -> str | None:
    """Return why nothing can have this name."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        return f"is not made of words of a-z and 0-9 joined by _, of {_MAX_NAME} characters at most"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "is a keyword of Python"
    if hasattr(builtins, name):
        return "is a built-in of Python"
    if name in _DEVICES:
        return "is a device on Windows"
    spec = find_spec(name)
    own = (PROJECT / name).exists() or (PROJECT / "src" / name).exists()
    if own or name in sys.stdlib_module_names or (spec is not None and spec.origin is not None):
        return "is a module of Python, of a dependency or of this project"
    return None


def _names(source: str | bytes, *, anywhere: bool = True) -> set[str]:
    """Return the names of functions and classes in a source text, and those that it uses anywhere."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    if anywhere:
        found |= {node.id for node in nodes if isinstance(node, ast.Name)}
        found |= {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    return found


def _listed(source: str, variable: str, name: str, imports: str, declaration: str) -> str:
    """Return the source with one more entry in the tuple, and with what is added above it."""
    line_end = "\r\n" if "\r\n" in source else "\n"
    data = source.replace("\r\n", "\n").encode()
    starts = [0]  # of lines; the positions of `ast` count bytes
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    body = ast.parse(data).body
    listing = next((node for node in body if _target(node) == variable), None)
    value = getattr(listing, "value", None)
    if listing is None or not isinstance(value, ast.Tuple) or data[_end(starts, value) - 1 :][:1] != b")":
        raise _Refused(f"{variable} is not a tuple in parentheses. Write it as one, or list the function yourself.")
    closing = _end(starts, value) - 1
    end = _end(starts, value.elts[-1]) if value.elts else closing
    tail = data[end:closing].rstrip(b" ")
    comma = b"," if value.elts and b"," not in re.sub(rb"#.*", b"", tail) else b""
    entry = f"    {name},\n" if tail.endswith(b"\n") else f" {name}" if value.elts else f"{name},"
    data = data[:end] + comma + tail + entry.encode() + data[closing:]
    if declaration:
        above = starts[listing.lineno - 1]
        while (before := data[:above].splitlines(keepends=True)) and before[-1].startswith(b"#"):
            above -= len(before[-1])  # a comment of the tuple
        data = data[:above].rstrip() + f"\n\n\n{declaration}\n\n".encode() + data[above:]
    heads = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom) and node.lineno < listing.lineno]
    docstring = [node for node in body[:1] if isinstance(node, ast.Expr)]
    place = starts[(heads or docstring)[-1].end_lineno or 0] if heads or docstring else 0
    return (data[:place] + imports.encode() + data[place:]).decode().replace("\n", line_end)


def _end(starts: list[int], node: ast.expr) -> int:
    return starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)


def _target(node: ast.stmt) -> str | None:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else None


def _format(path: Path) -> None:
    """Sort the imports and format the file with the project's own formatter, if it is installed."""
    if find_spec("ruff") is None:
        print("ruff is not installed, so the imports are not sorted: install the extra `dev`.", file=sys.stderr)
        return
    for arguments in (("check", "--select=I", "--fix", "--quiet"), ("format", "--quiet")):
        subprocess.run([sys.executable, "-m", "ruff", *arguments, str(path)], check=False)  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
