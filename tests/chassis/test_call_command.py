"""`call`: a tool of a running server from the terminal, through the official client."""

import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from mcp_chassis import cli
from secure_mcp_server.server import SERVER

from .support.project import CHASSIS, PROJECT
from .support.running import RunningServer, free_port

SCRIPT = PROJECT / "scripts" / "call.py"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("call", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def call(
    script: ModuleType, server: RunningServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Call:
    """Run it with the settings of the running server; return the exit code and what it printed."""
    monkeypatch.setenv("API_KEY", server.key)
    monkeypatch.setenv("PORT", str(server.port))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = script.main(list(arguments))
        return (code, *capfd.readouterr())

    return run


def test_a_tool_is_called_with_text(call: Call) -> None:
    assert call("hello_world", "name=World") == (0, "Hello, World!\n", "")


def test_a_whole_result_is_printed_as_json(call: Call) -> None:
    code, out, _ = call("hello_world", "--json")
    assert (code, json.loads(out)["content"][0]["text"]) == (0, "Hello, World!")


def test_without_a_tool_the_tools_are_listed(call: Call) -> None:
    code, out, _ = call()
    assert code == 0
    first, *_, last = out.splitlines()
    assert first == "hello_world name=text: Greet a person by name."
    assert last == "* is required."
    assert "read_note path=text*: " in out
    assert "list_notes: " in out


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        ({"type": "string"}, "text"),
        ({"type": "integer"}, "integer"),
        ({"type": "array", "items": {}}, "list"),
        ({"type": ["number", "null"]}, "number|null"),
        ({"anyOf": [{"type": "string"}, {"type": "string", "format": "date"}, {"type": "null"}]}, "text|null"),
        ({"$ref": "#/$defs/State"}, "open|done"),
        ({"const": 7}, "7"),
        ({}, "JSON"),
    ],
)
def test_an_argument_is_listed_with_its_kind_and_a_star_if_it_is_required(
    script: ModuleType, member: dict[str, object], kind: str
) -> None:
    definitions = {"State": {"enum": ["open", "done"], "type": "string"}}
    schema = {"properties": {"one": member, "two": member}, "required": ["two"], "$defs": definitions}
    assert list(script._listed(schema)) == [f"one={kind}", f"two={kind}*"]


def test_a_failed_call_is_exit_code_1_and_controls_no_terminal(call: Call) -> None:
    code, out, _ = call("hello_world", "name=\x1b[31mred")
    assert code == 1
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("no_such_tool",), "There is no tool no_such_tool. The tools are: hello_world"),
        (("hello_world", "World"), "'World' is not key=value, with one of the keys name."),
        (("hello_world", "who=World"), "'who=World' is not key=value"),
        (("hello_world", "--url", "http://mcp.example.com/mcp"), "the key would be readable on the way. Use https."),
        *(
            (("hello_world", "--url", url), "is not a URL such as https://mcp.example.com/mcp.")
            for url in ("http://[", "http://127.0.0.1:99999", "http://localhost:abc/", "localhost:8080")
        ),
        (("hello_world", "name=\udcff"), "A value is not UTF-8"),
    ],
)
def test_a_mistake_is_explained(call: Call, arguments: tuple[str, ...], reason: str) -> None:
    code, _, err = call(*arguments)
    assert code == 1
    assert reason in err


def test_a_refusal_is_shown_in_the_words_of_the_server(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = secrets.token_urlsafe(32)
    monkeypatch.setenv("API_KEY", wrong)
    code, _, err = call("hello_world")
    assert code == 1
    assert err.startswith("401: ")
    assert wrong not in err


def test_without_a_server_it_says_how_to_start_one(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(free_port()))
    code, _, err = call("hello_world")
    assert (code, err) == (1, "No server answers there. Start it with `serve`, or name another with --url.\n")


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "integer"}, "5", 5),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", "null"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "null", None),
        ({"$ref": "#/$defs/State"}, "open", "open"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
    ],
)
def test_a_value_is_read_as_the_schema_says(
    script: ModuleType, schema: dict[str, object], text: str, value: object
) -> None:
    definitions = {"State": {"enum": ["open", "done"], "type": "string"}}
    assert script._value("key", text, schema, definitions) == value


@pytest.mark.parametrize("text", ["five", "[" * 100_000, ""])
def test_what_is_no_json_is_explained(script: ModuleType, text: str) -> None:
    with pytest.raises(script.Failure, match="amount: is no JSON"):
        script._value("amount", text, {"type": "integer"}, {})


@pytest.mark.parametrize(("typed", "action", "content"), [("y", "accept", {"confirm": True}), ("", "cancel", None)])
@pytest.mark.anyio
async def test_a_question_is_asked_on_the_terminal(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, typed: str, action: str, content: dict[str, object] | None
) -> None:
    form = {"properties": {"confirm": {"type": "boolean", "title": "Run it"}}}
    params = script.types.ElicitRequestFormParams(message="Run\x1b[2J it?", requested_schema=form)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: typed)
    answer = await script._ask(None, params)
    assert (answer.action, answer.content) == (action, content)


def test_the_command_runs_the_script_of_the_project(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_KEY", server.key)
    monkeypatch.setenv("PORT", str(server.port))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(CHASSIS), str(PROJECT / "src"))))
    assert cli.run(SERVER, ["call", "hello_world"]) == 0
    assert capfd.readouterr().out == "Hello, World!\n"
