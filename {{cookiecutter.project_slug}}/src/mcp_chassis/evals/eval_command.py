"""`eval`: ask a model, or judge the answers that it gave before.

The model is asked over the two forms of API that most endpoints have: OpenAI's chat completions, Anthropic's messages.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..approval.lock import digest
from ..cli.terminal import table
from ..service import Service, unchecked_server
from ..settings import Settings, SettingsError
from . import EvalSettings

_SECONDS = 120.0
_MAX_TOKENS = 1024


class Case(BaseModel):
    """A request, and what a model should call for it.

    `tool` is null where none should be called. Arguments that a case does not name are not looked at.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    request: str
    tool: str | None
    arguments: dict[str, Any] = {}


class ModelError(Exception):
    """The endpoint gave no usable answer. The message says what to do, without the key and the body."""


class Answer(BaseModel):
    """What the model wants to call. `tool` is None if it answered in words."""

    tool: str | None
    arguments: dict[str, Any]


class Kept(Answer):
    """A recorded answer. `asked` is the digest of the request, the instructions and the tools that the model saw."""

    asked: str


_Recording = TypeAdapter(dict[str, Kept])


def run_evals(directory: Path, options: argparse.Namespace, service: Service, settings: Settings) -> int:
    """Judge every case and print a table. Return 1 if an answer is not as expected."""
    server, own = unchecked_server(service), settings.room(EvalSettings)
    cases = _cases(options.files or sorted(directory.glob("*.yaml")), server.guarded_tools)
    offered = [guarded.tool for guarded in server.guarded_tools.values()]
    tools = [{"name": one.name, "description": one.description, "input_schema": one.parameters} for one in offered]
    recording = directory / "recorded.json"
    kept = _kept(recording)
    asks_model = options.record or (own.eval_url is not None and not options.replay)
    rows, code = [("CASE", "RESULT")], 0
    for case in cases:
        asked, found = digest([case.request, server.instructions, tools]), kept.get(case.name)
        try:
            if asks_model:
                answer = _ask(own, case.request, tools, server.instructions)
                kept[case.name] = found = Kept(asked=asked, tool=answer.tool, arguments=answer.arguments)
            if found is None or found.asked != asked:
                why = "is not recorded" if found is None else "was recorded with another request or other tools"
                raise ModelError(f"{why}: set EVAL_URL and run `eval --record`.")
            fault = _fault(case, found)
        except ModelError as error:
            fault = str(error)
        rows.append((case.name, fault or "ok"))
        code |= bool(fault)
    print(table(rows))
    if options.record:
        text = json.dumps(_Recording.dump_python(kept), indent=2, sort_keys=True, ensure_ascii=False)
        recording.write_text(text + "\n", encoding="utf-8", newline="\n")
    return code


def _fault(case: Case, given: Answer) -> str:
    if given.tool != case.tool:
        return f"calls {given.tool or 'no tool'} instead of {case.tool or 'none'}"
    wrong = [name for name, value in case.arguments.items() if given.arguments.get(name) != value]
    return f"other values than expected: {', '.join(wrong)}" if wrong else ""


def _cases(paths: Sequence[Path], tools: Mapping[str, object]) -> list[Case]:
    try:
        load = import_module("yaml").safe_load
    except ModuleNotFoundError:
        raise SettingsError(["eval: needs PyYAML. Install the extra: pip install -e '.[eval]'"]) from None
    found: dict[str, Case] = {}
    for path in paths:
        try:
            cases = TypeAdapter(list[Case]).validate_python(load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise SettingsError([f"{path}: cannot be read: {error.strerror}."]) from None
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"]))
            raise SettingsError([f"{path}: {where}: is not as docs/evals.md describes a case."]) from None
        except ValueError:
            raise SettingsError([f"{path}: is not UTF-8. Save it in that encoding."]) from None
        except Exception as error:  # YAML's own base class, which is only there with the extra
            raise SettingsError([f"{path}: is not YAML: {str(error).splitlines()[0]}."]) from None
        for case in cases:
            if case.name in found:
                raise SettingsError([f"{path}: {case.name}: there are two cases of this name. Rename one."])
            if case.tool is not None and case.tool not in tools:
                raise SettingsError([f"{path}: {case.name}: there is no tool {case.tool!r}. Correct the name."])
            found[case.name] = case
    if not found:
        raise SettingsError(["eval: there are no cases. Write some into evals/*.yaml: docs/evals.md says how."])
    return list(found.values())


def _kept(path: Path) -> dict[str, Kept]:
    try:
        return _Recording.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError):
        raise SettingsError([f"{path}: cannot be read. Restore it, or remove it and run `eval --record`."]) from None


def _ask(own: EvalSettings, request: str, tools: Sequence[dict[str, Any]], instructions: str | None) -> Answer:
    """Return the first call that the model makes for a request.

    Raises:
        SettingsError: if there is no model to ask.
        ModelError: if it does not answer, or in another form.
    """
    if own.eval_url is None or own.eval_model is None:
        raise SettingsError(["EVAL_URL: is missing. Set it to the API of the model to ask."])
    key = own.eval_key.get_secret_value() if own.eval_key is not None else ""
    is_openai = own.eval_api == "openai"
    path, headers, body = (_openai if is_openai else _anthropic)(request, tools, instructions, key)
    body["model"] = own.eval_model
    try:
        response = httpx2.post(own.eval_url.rstrip("/") + path, headers=headers, json=body, timeout=_SECONDS)
    except httpx2.HTTPError as error:
        raise ModelError(f"EVAL_URL: cannot be reached ({type(error).__name__}). Check it.") from None
    if not response.is_success:
        hint = "check EVAL_KEY" if response.status_code in {401, 403} else "check EVAL_URL, EVAL_API and EVAL_MODEL"
        raise ModelError(f"EVAL_URL: the API answered {response.status_code}: {hint}.")
    try:
        return (_openai_answer if is_openai else _anthropic_answer)(response.json())
    except (ValueError, KeyError, IndexError, TypeError):
        raise ModelError(f"EVAL_URL: the answer is not of an API like {own.eval_api}'s. Check EVAL_API.") from None


_Parts = tuple[str, dict[str, str], dict[str, Any]]


def _openai(request: str, tools: Sequence[dict[str, Any]], instructions: str | None, key: str) -> _Parts:
    system = [{"role": "system", "content": instructions}] if instructions else []
    functions = [
        {"name": one["name"], "description": one["description"], "parameters": one["input_schema"]} for one in tools
    ]
    body = {
        "messages": [*system, {"role": "user", "content": request}],
        "tools": [{"type": "function", "function": function} for function in functions],
    }
    return "/chat/completions", {"Authorization": f"Bearer {key}"} if key else {}, body


def _openai_answer(document: Any) -> Answer:
    calls = document["choices"][0]["message"].get("tool_calls") or []
    if not calls:
        return Answer(tool=None, arguments={})
    function = calls[0]["function"]
    return Answer(tool=function["name"], arguments=dict(json.loads(function["arguments"] or "{}")))


def _anthropic(request: str, tools: Sequence[dict[str, Any]], instructions: str | None, key: str) -> _Parts:
    messages = [{"role": "user", "content": request}]
    body = {"max_tokens": _MAX_TOKENS, "messages": messages, "tools": tools}
    body |= {"system": instructions} if instructions else {}
    return "/messages", {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {}), body


def _anthropic_answer(document: Any) -> Answer:
    calls = [part for part in document["content"] if part["type"] == "tool_use"]
    if not calls:
        return Answer(tool=None, arguments={})
    return Answer(tool=calls[0]["name"], arguments=dict(calls[0]["input"]))
