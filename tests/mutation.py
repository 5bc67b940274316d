#!/usr/bin/env python3
"""Mutation tests: small faults in security-relevant modules, each of which the tests near the module have to notice.

    python dev.py mutate [--seed N] [--seconds S] [--record] [ROOM ...]

cosmic-ray makes the faults. Its own runner changes the files of the checkout; here a process is forked for each
fault, and imports one module in its changed form. No file is written, and the libraries are imported only once.
"""

import argparse
import ast
import difflib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import multiprocessing
import os
import random
import re
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CHASSIS = ROOT / "{{cookiecutter.project_slug}}" / "src" / "mcp_chassis"
LISTED = ROOT / "tests" / "mutation.toml"
PAGE = ROOT / "docs" / "mutation.md"
_NEAR = ROOT / "tests" / "chassis"
_OPERATORS = re.compile(
    r"core/(ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_(LtE|GtE)|LtE_(Lt|Gt)|Gt_(GtE|LtE)|GtE_(Gt|Lt)|Is_IsNot"
    r"|IsNot_Is)|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul|BitOr_BitAnd|BitAnd_BitOr"
    r"|LShift_RShift|RShift_LShift|Pow_Mul)|ReplaceUnaryOperator_(Delete_Not|Delete_USub)|AddNot|ReplaceTrueWithFalse"
    r"|ReplaceFalseWithTrue|ReplaceAndWithOr|ReplaceOrWithAnd|ReplaceBreakWithContinue|ReplaceContinueWithBreak"
    r"|ExceptionReplacer|NumberReplacer|RemoveDecorator|ZeroIterationForLoop)"
)
"""One or two faults at each place: cosmic-ray has seven for every comparison, most of which fail at once."""
_PLUGINS = ("xdist.plugin", "anyio.pytest_plugin", "_hypothesis_pytestplugin")
_WARM = (
    *_PLUGINS,
    *("_pytest.debugging", "_pytest.doctest", "_pytest.junitxml", "_pytest.pastebin", "anyio._backends._asyncio"),
    *("anyio", "cookiecutter.main", "cryptography.hazmat.primitives.asymmetric.rsa", "h11", "httptools", "httpx2"),
    *("hypothesis.strategies", "jsonschema", "jwt", "mcp.server.mcpserver", "mcp.client", "pydantic_settings"),
    *("pytest", "redis.asyncio", "starlette.applications", "structlog", "uvicorn"),
)


_PARAMETERS = re.compile(r"[(,] ?/, |^/,$")  # where `*, ` was


class Room(NamedTuple):
    """Modules of the chassis, and the test files near them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


_HELD = "test_a_root_that_is_replaced_by_a_link_is_still_the_old_root"
ROOMS: dict[str, tuple[Room, ...]] = {
    "auth": (
        Room(
            ("middleware/authentication.py",),
            ("auth/test_bearer.py", "middleware/test_authentication.py", "middleware/test_failed_attempts.py"),
        ),
        Room(
            ("auth/keys/format.py", "auth/keys/verifier.py", "auth/principal.py", "auth/verifier.py"),
            (
                *("auth/test_keys.py", "auth/test_api_key.py", "auth/test_key_verifier.py", "auth/test_principal.py"),
                *("auth/test_claims.py", "middleware/test_authentication.py"),
            ),
        ),
        Room(("auth/keys/records.py", "auth/keys/store.py"), ("auth/test_key_store.py", "auth/test_key_verifier.py")),
        Room(
            ("auth/oauth/jwt_verifier.py", "auth/oauth/rules.py"),
            ("auth/test_jwt_verifier.py", "auth/test_rules.py", "auth/test_token_report.py", "auth/test_claims.py"),
        ),
    ),
    "http": (
        Room(("http/framing.py",), ("test_strict_http.py", "test_http_differential.py")),
        Room(("http/strict_json.py",), ("test_strict_json.py",)),
    ),
    "approval": (Room(("approval/lock.py",), ("policy/test_lock.py", "policy/test_lock_properties.py")),),
    "calls": (Room(("calls/confirmation.py",), ("policy/test_confirmation.py", "policy/test_asking.py")),),
    "limits": (
        Room(("limits/client_address.py",), ("middleware/test_client_address.py",)),
        Room(
            ("limits/lockout.py", "limits/rate_limiter.py"),
            ("test_rate_limiter.py", "middleware/test_failed_attempts.py"),
        ),
        Room(("limits/slots.py",), ("policy/test_concurrency.py", "policy/test_tools.py")),
    ),
    "sinks": (
        Room(
            ("sinks/urls.py", "sinks/addresses.py"),
            ("security/test_urls.py", "security/test_templates.py", "security/test_addresses.py"),
        ),
        Room(
            ("sinks/safe_root.py",),
            ("security/test_paths.py", "security/test_safe_root.py", f"attacks/test_paths.py::{_HELD}"),
        ),
    ),
}


class Mutant(NamedTuple):
    """One fault."""

    path: Path
    changed: str
    """The whole module with the fault."""
    was: str
    now: str

    @property
    def module(self) -> str:
        """Return the path of the module below the chassis, or its name elsewhere."""
        return self.path.relative_to(CHASSIS).as_posix() if self.path.is_relative_to(CHASSIS) else self.path.name

    @property
    def id(self) -> tuple[str, str, str]:
        """Return what a listed survivor is recognised by: it stays the same when other lines move."""
        return self.module, self.was, self.now

    def diff(self) -> str:
        """Return the fault as a patch."""
        lines = (self.path.read_text("utf-8").splitlines(), self.changed.splitlines())
        return "\n".join(difflib.unified_diff(*lines, f"a/{self.module}", f"b/{self.module}", lineterm="", n=2))


class Score(NamedTuple):
    """What became of the sampled mutants of one room."""

    possible: int
    killed: int
    listed: int
    survivors: list[Mutant]

    @property
    def sampled(self) -> int:
        """Return how many were tried."""
        return self.killed + self.listed + len(self.survivors)


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield every fault of a module that compiles.

    Left out are annotations, which only type checkers read, what a decorator such as `dataclass` is given, and the `*`
    of a list of parameters.
    """
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    text = path.read_text("utf-8")
    tree, passed_by, before = get_ast(text), _passed_by(text), text.splitlines()
    for name in filter(_OPERATORS.fullmatch, operator_names()):
        operator = get_operator(name)()
        places = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for number, (start, end) in enumerate(places):
            if any(first <= start and end <= last for first, last in passed_by):
                continue
            with suppress(SyntaxError, AttributeError):  # the latter of `except module.Name`, which it does not know
                changed = mutate_code(text, operator, number)
                compile(changed, path, "exec", dont_inherit=True)
                was, now = _difference(before, changed.splitlines())
                if not _PARAMETERS.search(now):
                    yield Mutant(path, changed, was, now)


def _passed_by(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the beginnings and ends of annotations, and of what comes between a decorator's brackets."""
    found: list[object] = []
    for node in ast.walk(ast.parse(text)):
        found += [getattr(node, name, None) for name in ("annotation", "returns")]
        for decorator in getattr(node, "decorator_list", ()):
            found += [keyword.value for keyword in getattr(decorator, "keywords", ())]
    return [
        ((each.lineno, each.col_offset), (each.end_lineno or 0, each.end_col_offset or 0))
        for each in found
        if isinstance(each, ast.expr)
    ]


def _difference(before: Sequence[str], after: Sequence[str]) -> tuple[str, str]:
    for tag, start, end, other, last in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            return "\n".join(before[start:end]).strip(), "\n".join(after[other:last]).strip()
    return "", ""


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module in its changed form."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(mutant.path))
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.mutant.changed, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the changed module by its name, before the file is looked for."""

    def __init__(self, mutant: Mutant) -> None:
        parts = mutant.path.relative_to(CHASSIS.parent if mutant.path.is_relative_to(CHASSIS) else mutant.path.parent)
        self.name = ".".join(parts.with_suffix("").parts)
        self.loader = _Loader(self.name, mutant)

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.loader.path, loader=self.loader)


def _child(tests: Sequence[str], mutant: Mutant | None) -> None:
    """Run the tests in a process of their own, and exit as pytest does. Only a run without a fault has output."""
    os.setsid()
    gc.freeze()  # pytest collects garbage several times: what came with the fork is none
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        for stream in (1, 2) if mutant is not None else ():
            os.dup2(nothing.fileno(), stream)
        import hypothesis
        import pytest

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # a failure is enough: it is not made smaller
        hypothesis.settings.register_profile("mutation", database=None, derandomize=True, phases=phases)
        hypothesis.settings.load_profile("mutation")
        if mutant is not None:
            sys.meta_path.insert(0, _Finder(mutant))
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those that are needed are named, which saves a second
        options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", *(f"-p{name}" for name in _PLUGINS)]
        code = int(pytest.main([*options, *tests]))
        os._exit(code)


def passes(tests: Sequence[str], mutant: Mutant | None, seconds: float) -> bool:
    """Whether the tests pass with this fault, within this time."""
    process = multiprocessing.get_context("fork").Process(target=_child, args=(tests, mutant))
    process.start()
    process.join(seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # with whatever the tests started
    process.join()
    return process.exitcode == 0


def warm_up() -> None:
    """Import libraries, and make the project that the tests of the chassis serve: every forked process has them."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT), str(CHASSIS.parent)]
    os.environ |= {"TQDM_DISABLE": "1"}
    for name in _WARM:
        with suppress(ImportError):
            importlib.import_module(name)
    importlib.import_module("chassis.support.project")


def listed_survivors() -> dict[tuple[str, str, str], str]:
    """Return the survivors that have a reason, which may stand for all faults of a line (`now = "*"`)."""
    entries = tomllib.loads(LISTED.read_text("utf-8")).get("survivor", []) if LISTED.exists() else []
    return {(entry["module"], entry["was"], entry.get("now", "*")): entry["reason"] for entry in entries}


def is_listed(mutant: Mutant, listed: Iterable[tuple[str, str, str]]) -> bool:
    """Whether a survivor has a reason."""
    return mutant.id in listed or (mutant.module, mutant.was, "*") in listed


def run(
    rooms: dict[str, tuple[Room, ...]], *, seed: int, seconds: float, listed: Iterable[tuple[str, str, str]] = ()
) -> dict[str, Score]:
    """Try mutants in an order that the seed decides, one of each room after another, until the time is over.

    Raises:
        SystemExit: if tests fail without any fault.
    """
    order = random.Random(seed)  # noqa: S311  (a sample)
    queues: dict[str, list[tuple[Mutant, tuple[str, ...], float]]] = {}
    for name, parts in rooms.items():
        queue = []
        for part in parts:
            tests, started = tuple(str(_NEAR / test) for test in part.tests), time.monotonic()
            if not passes(tests, None, 300):
                raise SystemExit(f"The tests fail without a fault: {' '.join(part.tests)}")
            deadline = 10 + 4 * (time.monotonic() - started)
            for module in part.modules:
                queue += [(mutant, tests, deadline) for mutant in mutants(CHASSIS / module)]
        order.shuffle(queue)
        queues[name] = queue
    possible = {name: len(queue) for name, queue in queues.items()}
    killed, excused = Counter[str](), Counter[str]()
    survivors: dict[str, list[Mutant]] = {name: [] for name in rooms}
    ends = time.monotonic() + seconds  # from here: a minute before it goes into runs without a fault
    # One of each room after another, so that a short time is shared.
    for name in itertools.cycle(tuple(queues)):
        if time.monotonic() >= ends or not any(queues.values()):
            break
        if not queues[name]:
            continue
        mutant, tests, deadline = queues[name].pop()
        if not passes(tests, mutant, deadline):
            killed[name] += 1
        elif is_listed(mutant, listed):
            excused[name] += 1
        else:
            survivors[name].append(mutant)
            say(f"survived: {mutant.module}\n{mutant.diff()}\n")
    return {name: Score(possible[name], killed[name], excused[name], survivors[name]) for name in rooms}


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def survivors_table(listed: dict[tuple[str, str, str], str]) -> list[str]:
    """Return the listed survivors as a table."""
    lines = ["| Module | Line | Fault | Why no test can notice it |", "|---|---|---|---|"]
    for (module, was, now), reason in listed.items():
        code = [f"`` {' '.join(text.split())} ``".replace("|", "\\|") for text in (was, now)]
        lines.append(f"| `{module}` | {code[0]} | {'any' if now == '*' else code[1]} | {reason} |")
    return lines


def page(scores: dict[str, Score], seed: int, listed: dict[tuple[str, str, str], str]) -> str:
    """Return docs/mutation.md."""
    all_ = Score(
        sum(score.possible for score in scores.values()),
        sum(score.killed for score in scores.values()),
        sum(score.listed for score in scores.values()),
        [mutant for score in scores.values() for mutant in score.survivors],
    )
    rows = [
        f"| {name} | {score.possible} | {score.sampled} | {score.killed} | {score.listed} | {len(score.survivors)} |"
        for name, score in {**scores, "all": all_}.items()
    ]
    result = _RESULT.format(date=datetime.now(UTC), seed=seed)
    return "\n".join([_HEAD, result, *rows, "", "## Listed survivors", "", *survivors_table(listed), ""])


_HEAD = """# Mutation tests

`python dev.py mutate` checks whether the tests notice faults. It makes a small fault in a security-relevant module of
the chassis (another comparison, `and` for `or`, a number that is one off, an exception that is not caught) and runs
the tests of that module, which must fail. A fault that they do not notice is a survivor. The command prints survivors
as patches. It exits with 1 if a survivor is not in `tests/mutation.toml` with a reason.

```
python dev.py mutate                           # every fault of every room: an hour or more
python dev.py mutate --seed 7 --seconds 600    # a sample; the seed determines the order
python dev.py mutate http limits               # only some rooms
```

`ROOMS` in `tests/mutation.py` groups the modules and their tests into rooms. The workflow `proof` runs a sample of
ten minutes every week, with the number of the week as its seed. The command runs on Linux and macOS.

[cosmic-ray](https://cosmic-ray.readthedocs.io/) makes the faults, used as a library. Its own runner changes the files
in place and starts pytest for each fault. `dev.py mutate` forks a process for each fault instead, in which only the
faulty module differs. mutmut 3.8 does not work here: it derives a module's name from its path
(`{{cookiecutter.project_slug}}.src.mcp_chassis...`), finds that no test imports this name, and stops.

## Last recorded run
"""
_RESULT = """Written by `python dev.py mutate --record` on {date:%Y-%m-%d}, with seed {seed}. *Listed* survivors have
a reason, *open* survivors have none.

| Room | Possible faults | Sampled | Killed | Listed | Open |
|---|---|---|---|---|---|"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a fault survived that is not listed."""
    parser = argparse.ArgumentParser(prog="dev.py mutate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"some of {', '.join(ROOMS)}")
    parser.add_argument("--seed", type=int, default=0, help="decides the order")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time (default: try all)")
    parser.add_argument("--record", action="store_true", help="write docs/mutation.md")
    options = parser.parse_args(words)
    if unknown := set(options.rooms) - set(ROOMS):
        parser.error(f"there is no room {', '.join(sorted(unknown))}: choose from {', '.join(ROOMS)}")
    if not hasattr(os, "fork"):
        parser.error("mutation tests need fork: run them on Linux or macOS")
    chosen: dict[str, Any] = {name: parts for name, parts in ROOMS.items() if name in (options.rooms or ROOMS)}
    listed = listed_survivors()
    warm_up()
    scores = run(chosen, seed=options.seed, seconds=options.seconds, listed=listed)
    for name, score in scores.items():
        say(
            f"{name}: {score.killed} of {score.sampled} killed, {score.listed} listed, {len(score.survivors)} open, "
            f"of {score.possible} possible (seed {options.seed})"
        )
    if options.record:
        PAGE.write_text(page(scores, options.seed, listed), "utf-8")
        say(f"wrote {PAGE.relative_to(ROOT)}")
    return int(any(score.survivors for score in scores.values()))


if __name__ == "__main__":
    sys.exit(main())
