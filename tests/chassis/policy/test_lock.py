"""The lock file: what every tool says of itself, as a reviewer approved it."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import pytest
from pydantic import Field

from mcp_chassis import tool
from mcp_chassis.approval.lock import (
    LockError,
    canonical,
    definition,
    differences,
    digest,
    locked_digests,
    write_lock,
)
from mcp_chassis.calls.tools import GuardedTool, guarded_tool

Tools = dict[str, GuardedTool]


def made(description: str = "Greet.", **options: Any) -> GuardedTool:
    def greet(name: Annotated[str, Field(max_length=10)] = "you") -> str:
        return name

    greet.__doc__ = description
    return guarded_tool(tool(**({"read_only": True} | options))(greet))


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "tools.lock.json"
    write_lock(path, {"greet": made()})
    return path


def test_what_is_locked_has_not_changed(lock: Path) -> None:
    assert differences(lock, {"greet": made()}) == []
    assert locked_digests(lock) == {"greet": digest(definition(made()))}


@pytest.mark.parametrize(
    "options",
    [
        {"description": "Greet!"},
        {"title": "Hello"},
        {"scopes": ["a"]},
        {"timeout": 31},
        {"calls_per_minute": 1},
        {"max_concurrency": 1},
        {"read_only": False},
        {"read_only": False, "destructive": False},
        {"open_world": False},
        {"confirm": True},
    ],
    ids=repr,
)
def test_a_change_is_shown_before_and_after(lock: Path, options: dict[str, Any]) -> None:
    first, *diff = differences(lock, {"greet": made(**options)})
    assert first == "greet: has changed"
    assert any(line.startswith("-") for line in diff)
    assert any(line.startswith("+") for line in diff)


def test_hidden_characters_are_visible_in_the_difference(lock: Path) -> None:
    lines = differences(lock, {"greet": made("Greet.\u202e")})
    assert "\\u202e" in "".join(lines)
    assert all(line.isascii() for line in lines)


def test_a_tool_that_came_and_one_that_went_are_named(lock: Path) -> None:
    assert differences(lock, {}) == ["greet: is gone"]
    assert differences(lock, {"greet": made(), "more": made()}) == ["more: is not in the lock file"]


def test_a_lock_file_edited_by_hand_is_noticed(lock: Path) -> None:
    document = json.loads(lock.read_text())
    document["tools"]["greet"]["definition"]["description"] = "Greet!"
    lock.write_text(json.dumps(document))
    assert "greet: the lock file was edited by hand, its digest does not fit" in differences(lock, {"greet": made()})
    assert len(differences(lock, {"greet": made("Greet!")})) == 1, "not even if the tool now is as it says"


def test_a_missing_lock_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="is missing: review the tools, then run `tools lock`"):
        differences(tmp_path / "nothing", {})


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "null", '{"tools": []}', '{"version": 1}', '{"version": 1, "tools": [1]}', "\ud800", "[" * 100_000),
        '{"version": 2, "tools": {}}',
        '{"version": 1, "tools": {"a": {"definition": {}}}}',
        '{"version": 1, "tools": {"a": {"sha256": "", "definition": {"b": NaN}}}}',
        '{"version": 1, "tools": {"a": {"sha256": "", "definition": {"b": 1, "b": 2}}}}',
    ],
    ids=lambda content: ascii(content)[:30],
)
def test_a_broken_lock_says_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tools.lock.json"
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(LockError, match="cannot be read: restore it"):
        differences(path, {})


def test_the_file_is_the_same_wherever_it_is_written(lock: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    write_lock(again, MappingProxyType({"greet": made()}))
    assert again.read_bytes() == lock.read_bytes()
    assert b"\r" not in lock.read_bytes()
    assert lock.read_bytes().endswith(b"\n")


def test_the_canonical_form_knows_no_order_and_no_space() -> None:
    assert canonical({"b": [1, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,null]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))


def test_a_docstring_without_its_indentation_is_the_same_as_one_with_it(tmp_path: Path) -> None:
    """Python 3.13 removes the indentation of docstrings when it compiles them; earlier versions keep it."""

    def greet(name: Annotated[str, Field(max_length=9)]) -> str:
        """Greet.

        Names are kept as they are:
            so is this indentation.
        """
        return name

    def locked() -> dict[str, Any]:
        return definition(guarded_tool(tool(read_only=True)(greet)))

    before = locked()
    assert greet.__doc__ is not None
    greet.__doc__ = "\n".join(line[8:] if number else line for number, line in enumerate(greet.__doc__.split("\n")))
    assert locked() == before
    assert before["description"] == "Greet.\n\nNames are kept as they are:\n    so is this indentation."


def test_a_tool_whose_results_are_not_redacted_is_another_tool(lock: Path) -> None:
    assert "redact" not in definition(made())["policy"], "a lock of before the option existed stays valid"
    assert definition(made(redact=False))["policy"]["redact"] is False
    assert len(differences(lock, {"greet": made(redact=False)})) > 1


@pytest.mark.parametrize(
    ("options", "mark"),
    [({}, {}), ({"untrusted": True}, {}), ({"untrusted": False}, {"untrusted": False})]
    + [({"open_world": False}, {}), ({"open_world": False, "untrusted": True}, {"untrusted": True})],
    ids=repr,
)
def test_whether_results_are_untrusted_is_in_the_lock_where_it_does_not_follow_from_open_world(
    options: dict[str, Any], mark: dict[str, bool]
) -> None:
    policy = definition(made(**options))["policy"]
    assert {name: value for name, value in policy.items() if name == "untrusted"} == mark


def test_a_change_is_shown_as_the_changed_lines_with_one_around_them(lock: Path) -> None:
    lines = differences(lock, {"greet": made("Greet!")})
    assert lines[:3] == ["greet: has changed", "--- approved", "+++ now"]
    assert [line[0] for line in lines[3:]] == ["@", " ", "-", "+", " "]
    assert lines[5:7] == ['-  "description": "Greet.",', '+  "description": "Greet!",']


def test_the_file_is_written_for_reviewers_one_member_a_line(lock: Path) -> None:
    assert lock.read_text(encoding="utf-8").splitlines()[:3] == ["{", '  "tools": {', '    "greet": {']
