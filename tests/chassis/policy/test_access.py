"""Which scopes a message needs, and who holds them."""

from collections.abc import Iterator

import pytest
import structlog
from mcp import MCPError

from mcp_chassis import prompt, resource, tool
from mcp_chassis.auth.principal import Principal, current_principal
from mcp_chassis.calls.scopes import (
    INSUFFICIENT_SCOPE,
    Access,
    missing_scopes,
    require,
)
from mcp_chassis.calls.tools import guarded_tool
from mcp_chassis.events.log import EventLog


@tool(scopes=["b", "a"])
def write() -> str:
    """Write."""
    return ""


@resource("notes://index", scopes=["a"])
def index() -> str:
    """Index."""
    return ""


@resource("notes://{name}", scopes=["b"])
def note(name: str) -> str:
    """Read."""
    return name


@resource("notes://{folder}", scopes=["c"])
def folder(folder: str) -> str:
    """Read."""
    return folder


@prompt(scopes=["a"])
def greet() -> str:
    """Greet."""
    return ""


ACCESS = Access({"write": guarded_tool(write)}, [index, note, folder], [greet])


@pytest.fixture(autouse=True)
def _alice() -> Iterator[None]:
    token = current_principal.set(Principal("oauth:alice", "oauth", frozenset({"a"})))
    yield
    current_principal.reset(token)


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("tools/call", {"name": "write"}, {"a", "b"}),
        ("tools/call", {"name": "nothing"}, set()),
        ("tools/call", {"name": 7}, set()),
        ("tools/call", {}, set()),
        ("tools/call", {"uri": "write"}, set()),
        ("prompts/get", {"name": "greet"}, {"a"}),
        ("prompts/get", {"name": "write"}, set()),
        ("resources/read", {"uri": "notes://index"}, {"a"}),
        ("resources/read", {"uri": "notes://today"}, {"b", "c"}),
        ("resources/read", {"uri": "other://today"}, set()),
        ("resources/read", {"name": "notes://index"}, set()),
        ("tools/list", {"name": "write"}, set()),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["notes://index", "x"]}}, {"a"}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": [7, "notes://a"]}}, {"b", "c"}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": "notes://a"}}, set()),
        ("subscriptions/listen", {"notifications": {}}, set()),
        ("subscriptions/listen", {"notifications": 7, "name": "write"}, set()),
    ],
)
def test_the_scopes_of_a_message(method: str, params: dict[str, object], expected: set[str]) -> None:
    assert ACCESS.required(method, params) == expected


def test_all_that_are_needed_are_named() -> None:
    assert ACCESS.required("tools/call", {"name": "write"}) == {"a", "b"}


def test_without_a_principal_no_scope_is_held() -> None:
    current_principal.set(None)
    assert missing_scopes(frozenset({"a"}))
    assert not missing_scopes(frozenset())


def test_the_scope_of_all_scopes_is_enough() -> None:
    current_principal.set(Principal("key:default", "key", frozenset({"*"})))
    assert not missing_scopes(frozenset({"a", "b"}))


def test_who_lacks_a_scope_is_refused_and_noted() -> None:
    events, audit = EventLog(), {"outcome": "ok"}
    with structlog.testing.capture_logs(), pytest.raises(MCPError) as error:
        require(frozenset({"b", "a"}), events, audit, {"tool": "write"})
    assert error.value.error.code == INSUFFICIENT_SCOPE
    assert error.value.error.data["required_scopes"] == ["a", "b"]
    assert audit["outcome"] == "forbidden"
    (event,) = events.recent()
    assert (event["event"], event["identifier"]) == ("http_error", "oauth:alice")
    assert event["details"] == {"reason": "insufficient_scope", "scopes": ["a", "b"], "tool": "write"}


def test_who_holds_them_passes_unnoted() -> None:
    events, audit = EventLog(), {"outcome": "ok"}
    require(frozenset({"a"}), events, audit, {"tool": "write"})
    assert (events.total, audit["outcome"]) == (0, "ok")
