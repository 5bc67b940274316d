"""The short examples of a project's documents run as they stand there."""

import ast
import re
import sqlite3
from contextlib import closing

import pytest
from mcp.types import ElicitResult

from mcp_chassis.testing import call_tool

from .support.documents import DOCUMENTS, code, executed
from .support.project import PROJECT
from .support.running import RunningServer, text


def test_the_short_examples_of_the_documents_run() -> None:
    titles = executed(code("outgoing-values.md", "sql"))["titles"]
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE notes (owner TEXT, title TEXT)")
        database.execute("INSERT INTO notes VALUES ('ada', 'Engines')")
        assert titles(database, "ada", "E%") == ["Engines"]
        assert titles(database, "' OR '1'='1", "%") == []
    assert executed(code("outgoing-values.md", "urls"))["url"] == "https://api.example.com/users/ada/notes?page=2"


@pytest.mark.anyio
async def test_the_question_of_the_documents_is_put_to_the_user() -> None:
    async def answer(*_: object) -> ElicitResult:
        return ElicitResult(action="accept", content={"size": "large"})

    quote = executed(code("tools.md", "questions"))["quote"]
    assert text(await call_tool(quote, {}, elicitation_callback=answer)) == "9.00"


def test_every_fixture_and_every_helper_of_a_project_is_explained() -> None:
    page = (DOCUMENTS / "testing.md").read_text(encoding="utf-8")
    sources = {name: (PROJECT / name).read_text(encoding="utf-8") for name in ("tests/conftest.py", *HELPERS)}
    defined = {node.name for source in sources.values() for node in ast.parse(source).body if hasattr(node, "name")}
    members = {name for name in vars(RunningServer) if not name.startswith("_")} - {"settings", "key"}
    assert {"server", "call_tool", "running_server", "text"} <= defined
    assert defined <= set(re.findall(r"`(\w+)", page))
    assert members | {"settings", "key"} <= set(re.findall(r"`\.(\w+)", page))


HELPERS = ("src/mcp_chassis/testing/__init__.py", "src/mcp_chassis/testing/running.py")
