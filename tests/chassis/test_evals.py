"""`eval`: a scripted model behind a real HTTP server, in both forms of API, and its recorded answers."""

import json
import secrets
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from mcp_chassis.cli import run
from mcp_chassis.settings import EXIT_CONFIG
from secure_mcp_server.server import SERVER

from .support.project import PROJECT

FORMS = ["openai", "anthropic"]
SHIPPED = sorted((PROJECT / "evals").glob("*.yaml"))
GREET = {"name": "greet", "request": "Say hello to Ada.", "tool": "hello_world", "arguments": {"name": "Ada"}}


class ScriptedModel(ThreadingHTTPServer):
    """Answers requests as configured, in the form of either API."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: dict[str, tuple[str | None, dict[str, Any]]] = {}
        self.key = secrets.token_urlsafe(24)
        self.status = 200
        self.body: bytes | None = None
        self.seen: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedModel

    def do_POST(self) -> None:
        model = self.server
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model.seen.append(asked)
        is_openai = self.path == "/v1/chat/completions"
        known = self.headers.get("Authorization" if is_openai else "x-api-key", "").removeprefix("Bearer ")
        body = json.dumps(self.answer(asked, is_openai=is_openai)).encode() if model.body is None else model.body
        self.send_response(model.status if known == model.key else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, asked: dict[str, Any], *, is_openai: bool) -> dict[str, Any]:
        tool, arguments = self.server.script.get(asked["messages"][-1]["content"], (None, {}))
        if is_openai:
            function = {"name": tool, "arguments": json.dumps(arguments)}
            calls = [{"id": "1", "type": "function", "function": function}] if tool else None
            return {"choices": [{"message": {"role": "assistant", "content": "Well.", "tool_calls": calls}}]}
        call = [{"type": "tool_use", "id": "1", "name": tool, "input": arguments}] if tool else []
        return {"content": [{"type": "text", "text": "Well."}, *call]}

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ScriptedModel]:
    """A model that the settings name, and a directory with one case."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evals").mkdir()
    write(GREET)
    with ScriptedModel() as served:
        Thread(target=served.serve_forever, args=(0.05,), daemon=True).start()
        for name, value in (("EVAL_URL", served.url), ("EVAL_MODEL", "scripted"), ("EVAL_KEY", served.key)):
            monkeypatch.setenv(name, value)
        served.script[str(GREET["request"])] = "hello_world", {"name": "Ada"}
        yield served
        served.shutdown()


def write(*cases: dict[str, Any]) -> None:
    """Write the cases into the directory of the test."""
    Path("evals/cases.yaml").write_text(yaml.safe_dump(list(cases)), encoding="utf-8")


@pytest.fixture
def evaluated(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return what runs `eval`, and returns the exit code and all that was printed."""

    def evaluate(*options: str) -> tuple[int, str]:
        code = run(SERVER, ["eval", *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    return evaluate


Evaluated = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_picks_the_right_tools_passes_all_shipped_cases(
    form: str, model: ScriptedModel, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVAL_API", form)
    cases = [case for path in SHIPPED for case in yaml.safe_load(path.read_text(encoding="utf-8"))]
    model.script = {case["request"]: (case["tool"], case.get("arguments", {})) for case in cases}
    code, said = evaluated(*map(str, SHIPPED))
    assert code == 0, said
    assert len(model.seen) == len(cases) > 10
    assert {case["tool"] for case in cases} - {None} == {tool.__name__ for tool in SERVER.tools}


@pytest.mark.parametrize("form", FORMS)
def test_a_model_gets_what_any_client_would_send_it(
    form: str, model: ScriptedModel, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVAL_API", form)
    assert evaluated()[0] == 0
    (asked,) = model.seen
    assert asked["model"] == "scripted"
    functions = [one["function"] if form == "openai" else one for one in asked["tools"]]
    (hello,) = [function for function in functions if function["name"] == "hello_world"]
    assert hello["description"] == "Greet a person by name."
    assert hello["parameters" if form == "openai" else "input_schema"]["properties"]["name"]["maxLength"] == 100
    assert "result" not in json.dumps(hello)  # no output schema, no policy


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (("list_notes", {}), "calls list_notes instead of hello_world"),
        ((None, {}), "calls no tool instead of hello_world"),
        (("hello_world", {"name": "Bob"}), "other values than expected: name"),
        (("hello_world", {}), "other values than expected: name"),
    ],
)
def test_another_call_than_expected_fails(
    given: Any, fault: str, model: ScriptedModel, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in FORMS:
        monkeypatch.setenv("EVAL_API", form)
        model.script[str(GREET["request"])] = given
        code, said = evaluated()
        assert code == 1
        assert fault in said


def test_a_call_where_none_is_expected_fails(model: ScriptedModel, evaluated: Evaluated) -> None:
    write(GREET | {"tool": None, "arguments": {}})
    code, said = evaluated()
    assert code == 1
    assert "calls hello_world instead of none" in said


def test_recorded_answers_are_judged_without_the_model(
    model: ScriptedModel, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluated("--record")[0] == 0
    assert evaluated("--replay")[0] == 0
    monkeypatch.delenv("EVAL_URL")
    assert evaluated()[0] == 0
    assert len(model.seen) == 1
    write(GREET | {"arguments": {"name": "Bob"}})
    code, said = evaluated()
    assert (code, "other values than expected: name" in said) == (1, True)


def test_a_recording_holds_no_key_and_no_host(model: ScriptedModel, evaluated: Evaluated) -> None:
    evaluated("--record")
    kept = Path("evals/recorded.json").read_text(encoding="utf-8")
    for secret in (model.key, "127.0.0.1", str(model.server_port), "scripted", "http"):
        assert secret not in kept
    (entry,) = json.loads(kept).values()
    assert entry.keys() == {"asked", "tool", "arguments"}


def test_an_answer_to_something_else_does_not_count(model: ScriptedModel, evaluated: Evaluated) -> None:
    evaluated("--record")
    write(GREET | {"request": "Greet Ada."}, GREET | {"name": "greet again"})
    code, said = evaluated("--replay")
    assert code == 1
    assert "was recorded with another request or other tools: set EVAL_URL and run `eval --record`" in said
    assert "is not recorded" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": 500}, "the API answered 500: check EVAL_URL, EVAL_API and EVAL_MODEL"),
        ({"key": "other"}, "the API answered 401: check EVAL_KEY"),
        ({"body": b"<html>"}, "the answer is not of an API like openai's"),
        ({"body": b'{"choices": []}'}, "the answer is not of an API like openai's"),
        ({"body": b'{"choices": [{"message": {"tool_calls": [{"function": {"name": "a"}}]}}]}'}, "not of an API like"),
    ],
    ids=str,
)
def test_an_endpoint_that_does_not_answer_is_an_error_without_its_text(
    change: dict[str, Any], message: str, model: ScriptedModel, evaluated: Evaluated
) -> None:
    key = model.key
    for name, value in change.items():
        setattr(model, name, value)
    code, said = evaluated("--record")
    assert code == 1
    assert message in said
    assert key not in said
    assert "<html>" not in said
    assert json.loads(Path("evals/recorded.json").read_text(encoding="utf-8")) == {}


def test_an_endpoint_that_is_not_there_is_an_error(
    model: ScriptedModel, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVAL_URL", "http://127.0.0.1:9/v1")
    code, said = evaluated()
    assert (code, "EVAL_URL: cannot be reached (ConnectError)" in said) == (1, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {name: a, request: b, tool: helo}", "cases.yaml: a: there is no tool 'helo'. Correct the name."),
        ("- {name: a, request: b}", "cases.yaml: 0.tool: is not as docs/evals.md describes a case."),
        (
            "- {name: a, request: b, tool: null, args: {}}",
            "cases.yaml: 0.args: is not as docs/evals.md describes a case.",
        ),
        ("a: [", "cases.yaml: is not YAML: "),
        ("!!python/object/apply:os.getcwd []", "cases.yaml: is not YAML: could not determine a constructor"),
        ("- &a {name: a, request: b, tool: null}\n- *a", "there are two cases of this name"),
        ("[]", "eval: there are no cases"),
    ],
)
def test_cases_that_cannot_be_used_are_named(
    text: str, message: str, model: ScriptedModel, evaluated: Evaluated
) -> None:
    Path("evals/cases.yaml").write_text(text, encoding="utf-8")
    code, said = evaluated()
    assert code == EXIT_CONFIG
    assert message in said
    assert model.seen == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"EVAL_URL": "http://models.example.com/v1"}, "EVAL_URL: must begin with https://"),
        ({"EVAL_URL": "ftp://127.0.0.1/"}, "EVAL_URL: must begin with https://"),
        ({"EVAL_MODEL": ""}, "EVAL_MODEL: is missing while EVAL_URL is set"),
        ({"EVAL_API": "gemini"}, "EVAL_API: write one of openai, anthropic."),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    settings: dict[str, str],
    message: str,
    model: ScriptedModel,
    evaluated: Evaluated,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    code, said = evaluated()
    assert (code, message in said) == (EXIT_CONFIG, True), said


def test_to_record_without_an_endpoint_is_an_error(
    model: ScriptedModel, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVAL_URL")
    code, said = evaluated("--record")
    assert (code, "EVAL_URL: is missing" in said) == (EXIT_CONFIG, True)
