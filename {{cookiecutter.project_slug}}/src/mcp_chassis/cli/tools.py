"""`tools list`, `tools lock` and `tools check`: what is served, and whether it is as approved."""

import argparse
import runpy
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..approval.lint import approval_problems, lint_problems, unconfirmed, unreachable
from ..approval.lock import LockError, definition, digest, locked_digests, write_lock
from ..calls.tools import GuardedTool
from ..service import Service, unchecked_server
from ..settings import Settings
from .terminal import Commands, table

_COLUMNS = ("TOOL", "SCOPES", "LIMITS", "ANNOTATIONS", "LOCK")
_HINTS = ("read_only", "destructive", "idempotent", "open_world", "untrusted")


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    tools = commands.add_parser("tools", help="list, approve or check the tools")
    tools.set_defaults(listens=False)
    sub = tools.add_subparsers(dest="tools_command", required=True, metavar="COMMAND")
    for name, command, text in (
        ("list", list_tools, "print a table of the tools"),
        ("lock", lock_tools, "record the tools as approved in the lock file"),
        ("check", check_tools, "print what has changed since then; exit 1 if anything has"),
    ):
        sub.add_parser(name, help=text).set_defaults(run=partial(_run, command))


def _run(command: Callable[..., int], _: argparse.Namespace, service: Service, settings: Settings) -> int:
    server = unchecked_server(service)
    code = command(server.guarded_tools, settings.tools_lock, server.other_texts)
    script = service.project / "scripts" / "model_apis.py" if service.project is not None else None
    if command is check_tools and script is not None and script.is_file():  # not in an installed wheel
        check_for_models = runpy.run_path(str(script))["check_for_models"]
        code |= check_for_models(server.guarded_tools, settings.tools_token_budget, settings.model_apis)
    if command is not list_tools:
        limits = settings.max_body_bytes, settings.max_body_nodes
        for name, guarded in server.guarded_tools.items():
            for note in (*unconfirmed(guarded.policy), *unreachable(guarded.tool.parameters, *limits)):
                print(f"Note: {name}: {note}", file=sys.stderr)
    return code


def list_tools(tools: Mapping[str, GuardedTool], lock: Path, _: Mapping[str, Any]) -> int:
    """Print a table of the tools."""
    try:
        locked = locked_digests(lock)
    except LockError:
        locked = {}
    rows = [_COLUMNS, *(_row(guarded, locked) for _, guarded in sorted(tools.items()))]
    print(table(rows))
    return 0


def lock_tools(tools: Mapping[str, GuardedTool], lock: Path, other_texts: Mapping[str, Any]) -> int:
    """Record the tools as approved, unless the lint refuses one, a resource or a prompt. Return the exit code."""
    if problems := lint_problems(tools, other_texts):
        print("Not locked:", *(f"  {line}" for line in problems), sep="\n", file=sys.stderr)
        return 1
    try:
        write_lock(lock, tools)
    except OSError as error:
        print(f"{lock}: cannot be written: {error.strerror}. Correct TOOLS_LOCK, or the rights there.", file=sys.stderr)
        return 1
    print(f"{lock}: {len(tools)} tool{'s' if len(tools) != 1 else ''} locked. Commit it with the change.")
    return 0


def check_tools(tools: Mapping[str, GuardedTool], lock: Path, other_texts: Mapping[str, Any]) -> int:
    """Print what has changed since the lock. Return the exit code."""
    if problems := approval_problems(tools, lock, other_texts):
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    print(f"{len(tools)} tool{'s' if len(tools) != 1 else ''} as approved in {lock}.")
    return 0


def _row(guarded: GuardedTool, locked: Mapping[str, str]) -> tuple[str, ...]:
    policy = guarded.policy
    limits = [f"{policy.timeout:g} s", f"{policy.max_concurrency} at once"]
    if policy.calls_per_minute is not None:
        limits.append(f"{policy.calls_per_minute}/min")
    hints = [name.replace("_", "-") for name in _HINTS if getattr(policy, name)]
    if policy.confirm or policy.destructive:
        hints.append("confirm" if policy.confirm is True else f"confirm-{policy.confirm or 'NEVER'}")
    hints += ["unredacted"] if not policy.redact else []
    hints += ["blocking"] if guarded.blocking else []
    approved = locked.get(guarded.tool.name)
    state = "missing" if approved is None else "ok" if approved == digest(definition(guarded)) else "CHANGED"
    scopes = " ".join(sorted(policy.scopes)) or "-"
    return guarded.tool.name, scopes, ", ".join(limits), " ".join(hints), state
