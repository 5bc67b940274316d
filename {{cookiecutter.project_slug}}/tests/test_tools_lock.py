"""The tools are those that were reviewed."""

from pathlib import Path

from mcp_chassis.approval.lint import approval_problems
from mcp_chassis.service import unchecked_server

from {{ cookiecutter.package_name }}.server import SERVER

LOCK = Path(__file__).parents[1] / "tools.lock.json"


def test_the_tools_are_as_approved() -> None:
    """If this fails, read what it prints. If it is as it should be: `tools lock`, and commit the file."""
    server = unchecked_server(SERVER)
    assert approval_problems(server.guarded_tools, LOCK, server.other_texts) == []


def test_every_tool_has_a_description_for_the_model() -> None:
    assert [function.__name__ for function in SERVER.tools if not function.__doc__] == []
