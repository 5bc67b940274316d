"""`eval`: ask a model, or judge the answers that it gave before."""

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..approval.lock import digest
from ..cli.terminal import table
from ..service import Service, unchecked_server
from ..settings import Settings, SettingsError
from . import EvalSettings
from .model import Answer, ModelError, ask


class Case(BaseModel):
    """A request, and what a model should call for it.

    `tool` is null where none should be called. Arguments that a case does not name are not looked at.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    request: str
    tool: str | None
    arguments: dict[str, Any] = {}


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
                answer = ask(own, case.request, tools, server.instructions)
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
            raise SettingsError([f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}."]) from None
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
