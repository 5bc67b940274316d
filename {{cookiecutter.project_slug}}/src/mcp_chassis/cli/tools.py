"""`tools list`, `tools lock` and `tools check`: what is served, and whether it is as approved."""

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..approval.bounds import unreachable
from ..approval.lint import approval_problems, lint_problems, unconfirmed
from ..approval.lock import LockError, definition, digest, locked_digests, write_lock
from ..approval.model_apis import shown_to_model, tokens, unportable
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
    if command is check_tools:
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
    write_lock(lock, tools)
    print(f"{lock}: {len(tools)} tool{'s' if len(tools) != 1 else ''} locked. Commit it with the change.")
    return 0


def check_tools(tools: Mapping[str, GuardedTool], lock: Path, other_texts: Mapping[str, Any]) -> int:
    """Print what has changed since the lock. Return the exit code."""
    if problems := approval_problems(tools, lock, other_texts):
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    print(f"{len(tools)} tool{'s' if len(tools) != 1 else ''} as approved in {lock}.")
    return 0


def check_for_models(tools: Mapping[str, GuardedTool], budget: int, apis: Collection[str]) -> int:
    """Print what the definitions cost a model, and what model APIs do not take of them. Return the exit code."""
    costs = {name: tokens(shown_to_model(guarded)) for name, guarded in tools.items()}
    whole, code = sum(costs.values()), 0
    by_cost = sorted(costs.items(), key=lambda item: -item[1])
    print(table([("TOOL", "TOKENS"), *((name, str(cost)) for name, cost in (*by_cost, ("all", whole)))]))
    for name, guarded in tools.items():
        for is_common, text in unportable(guarded, apis):
            print(f"{'' if is_common else 'Note: '}{name}: {text}", file=sys.stderr)
            code |= is_common
    if whole > budget:
        print(
            f"The definitions take about {whole} tokens of a model's context, more than "
            f"TOOLS_TOKEN_BUDGET of {budget}. Shorten those that cost most, split the server, or raise the budget.",
            file=sys.stderr,
        )
        code = 1
    return code


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
