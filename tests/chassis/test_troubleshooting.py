"""Every message that docs/troubleshooting.md and UPGRADING.md quote is one that the code gives."""

import argparse
import ast
import functools
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mcp.server.streamable_http
import pytest
import starlette.middleware.cors
import uvicorn.protocols.http.httptools_impl
from baking import ROOT

from mcp_chassis import cli, get_principal, tool
from mcp_chassis.service import unchecked_server
from mcp_chassis.settings import EXIT_CONFIG
from secure_mcp_server.server import SERVER

from .support.project import PROJECT

PAGE = (PROJECT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
UPGRADING = (ROOT / "UPGRADING.md").read_text(encoding="utf-8")
OTHERS = (argparse, mcp.server.streamable_http, starlette.middleware.cors, uvicorn.protocols.http.httptools_impl)
"""Modules of others whose messages the page quotes."""
_CODE = re.compile(r"(`+) ?(.+?) ?\1")
_GAP = "\0"  # what an f-string puts in


def quoted(page: str) -> list[str]:
    """Return the messages of the tables: what is in backticks in the column of that name."""
    found, column = list[str](), None
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        names = [name for name in ("Message", "Detail", "Begins with", "What you see first") if name in cells]
        if names:
            column = cells.index(names[0])
        elif not cells:
            column = None
        elif column is not None:
            found += [match[2] for match in _CODE.finditer(cells[column])]
    return found


def messages(page: str) -> list[str]:
    """Return those of the upgrade guide that are messages: the others are names in a sentence."""
    return [one for one in quoted(page) if "..." in one and " " in one]


@functools.cache
def texts() -> tuple[str, ...]:
    """Return every text in the code of the project and of the others; of an f-string what it puts in is a gap."""
    paths = [*(PROJECT / "src/mcp_chassis").rglob("*.py"), *(PROJECT / "scripts").glob("*.py")]
    paths += [Path(str(module.__file__)) for module in OTHERS]
    return tuple(text for path in paths for text in _texts(ast.parse(path.read_text(encoding="utf-8"))))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else _GAP for part in node.values)


def is_given(message: str) -> bool:
    """Whether one text of the code holds the parts of a message in their order, or makes the message as it stands."""
    parts = [part for part in re.split(r"\.{3}", message) if re.search(r"\w", part)]
    in_order = re.compile(".*".join(re.escape(part.strip()) for part in parts), re.DOTALL)
    return bool(parts) and any(in_order.search(text) or _makes(text, message) for text in texts())


def _makes(text: str, message: str) -> bool:
    pattern = _pattern(text)
    return pattern is not None and pattern.fullmatch(message) is not None


@functools.cache
def _pattern(text: str) -> re.Pattern[str] | None:
    """Return what matches all messages that a text makes. Compiling it for each message would take minutes."""
    literal = text.split(_GAP)
    return re.compile(".+".join(map(re.escape, literal))) if len("".join(literal)) > 15 else None


@pytest.mark.parametrize("message", [*quoted(PAGE), *messages(UPGRADING)])
def test_a_quoted_message_is_in_the_code(message: str) -> None:
    assert is_given(message)


def test_the_page_quotes_messages_of_every_kind() -> None:
    assert len(quoted(PAGE)) > 70


@pytest.mark.parametrize(
    "message", ["This server is tired.", "The body is smaller than 10 bytes.", "...", "... listens off ..."]
)
def test_an_invented_message_is_found(message: str) -> None:
    assert not is_given(message)


def explained(said: str) -> bool:
    """Whether a message of the page, with something in place of `...`, is part of what was said."""
    patterns = (".*".join(map(re.escape, message.split("..."))) for message in quoted(PAGE))
    return any(len(pattern) > 20 and re.search(pattern.strip(), said) for pattern in patterns)


STARTS: dict[str, tuple[list[str], dict[str, str]]] = {
    "no key": ([], {"API_KEY": ""}),
    "short key": ([], {"API_KEY": "short"}),
    "no public URL": ([], {"HOST": "0.0.0.0"}),
    "no authentication": ([], {"HOST": "0.0.0.0", "ENABLE_AUTH": "false", "PUBLIC_URL": "https://mcp.example.com"}),
    "path in the public URL": ([], {"PUBLIC_URL": "https://mcp.example.com/mcp"}),
    "any proxy": ([], {"ENVIRONMENT": "production", "TRUSTED_PROXIES": "0.0.0.0/0"}),
    "no lock file": ([], {"ENVIRONMENT": "production", "TOOLS_LOCK": "nothing.json"}),
    "no file of keys": ([], {"KEYS_FILE": str(PROJECT / "README.md")}),
    "no file of settings": (["--env-file", "nothing"], {"API_KEY": ""}),
}


@pytest.mark.parametrize(("options", "changes"), STARTS.values(), ids=STARTS)
def test_what_keeps_a_server_from_starting_is_explained(
    options: list[str],
    changes: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in ({"API_KEY": secrets.token_urlsafe(32)} | changes).items():
        if value:
            monkeypatch.setenv(name, value)
    assert cli.run(SERVER, ["serve", *options]) == EXIT_CONFIG
    heading, *problems = capsys.readouterr().err.splitlines()
    assert heading in quoted(PAGE)
    assert problems
    assert [problem for problem in problems if not explained(problem)] == []


def undeclared(name: str) -> str:
    """Return the name."""
    return name


def several(*names: str) -> str:
    """Return nothing."""
    return ""


def bytes_(data: bytes) -> str:
    """Return nothing."""
    return ""


@pytest.mark.parametrize(
    "declare",
    [
        lambda: build(undeclared),
        lambda: build(...),
        lambda: build(tool(read_only=True)(several)),
        lambda: build(tool(read_only=True)(bytes_)),
        lambda: build(*[tool(read_only=True)(undeclared)] * 2),
        lambda: tool(read_only=True, destructive=True)(undeclared),
        lambda: tool(confirm=False)(undeclared),
        lambda: tool(scopes="notes:read")(undeclared),
        get_principal,
    ],
)
def test_why_a_tool_is_not_served_is_explained(declare: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ValueError, LookupError)) as error:
        declare()
    assert explained(str(error.value)), str(error.value)


def build(*tools: Any) -> object:
    return unchecked_server(replace(SERVER, tools=tools, lifespan=None))
