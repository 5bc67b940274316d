"""The audit line: one for every call, whichever way it ends."""

import asyncio
from typing import Any

import pytest
import structlog
from mcp import MCPError

from mcp_chassis.auth.principal import STDIO, current_principal
from mcp_chassis.calls.arguments import Arguments
from mcp_chassis.calls.record import Recorder, audited, caller
from mcp_chassis.events.untrusted import declare

pytestmark = pytest.mark.anyio


async def outcome(error: BaseException | None = None, said: str | None = None) -> Any:
    """Return the outcome in the line of a block that says something and then raises `error`."""
    with structlog.testing.capture_logs() as lines:
        try:
            with audited(Recorder(), "tool_call", tool="a") as audit:
                if said is not None:
                    audit["outcome"] = said
                if error is not None:
                    raise error
        except BaseException as raised:
            assert raised is error  # noqa: PT017
    (line,) = lines
    assert (line["event"], line["tool"]) == ("tool_call", "a")
    assert line["duration_ms"] >= 0
    return line["outcome"]


@pytest.mark.parametrize(
    ("error", "said", "expected"),
    [
        (None, None, "ok"),
        (None, "rejected", "rejected"),
        (MCPError(code=-32602, message="no"), None, "refused"),
        (MCPError(code=-32602, message="no"), "forbidden", "forbidden"),
        (asyncio.CancelledError(), None, "cancelled"),
        (asyncio.CancelledError(), "asked", "asked"),
    ],
    ids=repr,
)
async def test_every_end_leaves_one_line(error: BaseException | None, said: str | None, expected: str) -> None:
    assert await outcome(error, said) == expected


def test_who_calls_is_known_or_said_to_be_unknown() -> None:
    assert caller() == "unknown"
    token = current_principal.set(STDIO)
    assert caller() == "stdio"
    current_principal.reset(token)


def sizes(arguments: dict[str, Any]) -> Any:
    """Return what the line says of arguments."""
    with (
        structlog.testing.capture_logs() as lines,
        audited(Recorder(), "tool_call", Arguments(arguments).encoded, tool="a"),
    ):
        pass
    return lines[0]["argument_bytes"]


def test_sizes_are_noted_and_values_are_not() -> None:
    declare({"text", "list", "nothing"})
    assert sizes({"text": "hunter2", "list": [1, 2], "nothing": None}) == {"text": 9, "list": 5, "nothing": 4}


def test_a_made_up_name_of_an_argument_is_described_and_not_repeated() -> None:
    ((name, size),) = sizes({"hunter2-hunter2": 1}).items()
    assert name.startswith("(unknown: 15 characters, ")
    assert size == 1


def test_names_and_their_number_are_bounded() -> None:
    flood = sizes({f"{number:02}" + "x" * 1000: 1 for number in range(50)})
    assert len(flood) == 32
    assert max(map(len, flood)) < 64


def test_what_cannot_be_json_has_no_size() -> None:
    assert sizes({"text": "\ud800"}) == {"text": None}
