#!/usr/bin/env python3
"""Everything a checkout of this template needs, in one file that needs nothing but Python 3.11 and pip.

    python dev.py serve      scaffold the default project into .scratch/, install it, start it
    python dev.py render     scaffold only
    python dev.py sync       copy edited files of the scratch project's own package back into the template
    python dev.py manifest   write the checksums of the chassis, which `chassis verify` compares with
    python dev.py scorecard  run the test behind every promise, and write SCORECARD.md
    python dev.py mutate     make faults in security-relevant modules, which the tests near them have to notice
    python dev.py fuzz       try changed inputs on the readers of untrusted bytes
    python dev.py test       lint, type check and test the template and the projects it makes

All of it happens below `.scratch/`, which git ignores and which may be deleted at any time. The same lines work on
Linux, macOS and Windows. This file must stay readable to Python 3.8, so that an old one can say that it is too old.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

OLDEST_PYTHON = (3, 11)
WINDOWS = os.name == "nt"
HOST = "127.0.0.1"
DEFAULT_PORT = 8080
START_SECONDS = 60
STOP_SECONDS = 20
EVERY_ROOM = {
    "auth": "oauth",
    "rate_limit": "redis",
    "audit_trail": "yes",
    "observability": "metrics-and-traces",
    "evals": "yes",
}
"""Answers that bring every optional package of the chassis."""
CHASSIS = "mcp_chassis"
"""The package of a project that is the template's; the other one is the team's."""
MANIFEST = "MANIFEST"
"""The file with the checksums of the chassis, in the chassis."""
TOOLS = {"mutate": "mutation.py", "fuzz": "fuzz/run.py"}
"""Commands that are programs of their own, below `tests/`."""
# What tools leave behind in a project. They are generated, so nothing copies or reports them.
LITTER = {"__pycache__", ".git", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "uv.lock"}


class Failure(Exception):
    """Ends a command. Its text is a sentence for the person at the terminal."""


# --- where things are -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkout:
    """The paths of one checkout of the template."""

    root: Path

    @property
    def scratch(self) -> Path:
        return self.root / ".scratch"

    @property
    def template(self) -> Path:
        return self.root / "{{cookiecutter.project_slug}}"

    @property
    def package(self) -> Path:
        """The template of the team's package. It is copied without rendering, so `sync` can copy it back."""
        return self.template / "src" / "{{cookiecutter.package_name}}"

    @property
    def chassis(self) -> Path:
        """The chassis, which is plain Python: it is edited and tested here."""
        return self.template / "src" / CHASSIS

    @property
    def constraints(self) -> Path:
        return self.root / "constraints.txt"

    @property
    def projects(self) -> Path:
        return self.scratch / "project"

    def questions(self) -> dict[str, Any]:
        """The questions of the template with their defaults, private ones left out."""
        asked = json.loads((self.root / "cookiecutter.json").read_text(encoding="utf-8"))
        return {name: default for name, default in asked.items() if not name.startswith("_")}


def say(text: str = "") -> None:
    """Print at once: the next step may take a minute."""
    print(text, flush=True)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of(*parts: str | bytes) -> str:
    """One key for several inputs; it changes when any of them does."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()


def files_below(directory: Path) -> Iterator[str]:
    """Relative POSIX paths of files that are not generated, sorted; caches and links to directories are passed by."""
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if LITTER.isdisjoint(relative.parts) and path.suffix != ".pyc" and path.is_file():
            yield relative.as_posix()


def shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


# --- running other programs -------------------------------------------------------------------------------------------


def run_quietly(step: str, command: Sequence[str | Path], cwd: Path, log: Path) -> None:
    """Run `command` with a dot a second for company; its output goes to `log`, and its end to the terminal on failure.

    Raises:
        Failure: the command did not succeed.
    """
    print(f"{step} ", end="", flush=True)
    started = time.monotonic()
    tail: deque[str] = deque(maxlen=25)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8", errors="replace") as record:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )

        def drain() -> None:
            assert process.stdout is not None
            with process.stdout as output:
                for line in output:
                    record.write(line)
                    tail.append(line.rstrip())

        reader = threading.Thread(target=drain, daemon=True)
        reader.start()
        try:
            code = wait_with_dots(process)
        except BaseException:
            stop(process)
            print(flush=True)
            raise
        finally:
            reader.join(timeout=5)
    if code != 0:
        end = "\n".join(f"    {line}" for line in tail if line.strip())
        raise Failure(f"\n{end}\n\n{step}: failed with exit code {code}. The whole output is in {shown(log)}.")
    say(f" {time.monotonic() - started:.0f} s")


def wait_with_dots(process: subprocess.Popen[str]) -> int:
    while True:
        try:
            return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            print(".", end="", flush=True)


def stop(process: subprocess.Popen[Any]) -> int:
    """End a child, first politely. A second Ctrl-C, or a child that does not listen, ends it at once."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(timeout=STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        return process.wait()


# --- the virtual environments -----------------------------------------------------------------------------------------


@dataclass
class Environment:
    """A virtual environment below `.scratch/` which remembers what was installed into it, and for which inputs.

    Its record lies beside it. An installation that was interrupted leaves `busy` behind, and the environment is then
    made anew: pip would otherwise build on half a package.
    """

    path: Path
    installed: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.path / "Scripts" / "python.exe" if WINDOWS else self.path / "bin" / "python"

    @property
    def record(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")

    def identity(self) -> str:
        """Environments hold absolute paths and belong to one interpreter: a moved checkout needs a new one."""
        return digest_of(str(self.path), sys.base_prefix, sys.version)

    def remember(self, *, busy: bool) -> None:
        state = {"identity": self.identity(), "busy": busy, "installed": self.installed}
        self.record.write_text(json.dumps(state, indent=2), encoding="utf-8")

    def recall(self) -> bool:
        """Read the record. False: there is no environment that could be used."""
        try:
            state = json.loads(self.record.read_text(encoding="utf-8"))
            usable = not state["busy"] and state["identity"] == self.identity() and self.python.exists()
            self.installed = dict(state["installed"]) if usable else {}
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return usable

    def create(self) -> None:
        """Make the environment, unless a usable one is there."""
        if self.recall():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            command = (sys.executable, "-m", "venv", "--clear", self.path)
            run_quietly("Making a virtual environment", command, self.path.parent, self.log)
        except Failure as error:
            hint = "On Debian and Ubuntu, `apt install python3-venv` provides what is missing."
            raise Failure(f"{error}\n{hint}") from None
        self.installed = {}
        self.remember(busy=False)

    def install(self, name: str, key: str, constraints: Path, requirements: Sequence[str], cwd: Path) -> None:
        """`pip install` the requirements, unless `name` was installed for the same `key` before."""
        if self.installed.get(name) == key:
            return
        self.remember(busy=True)
        pip: list[str | Path] = [self.python, "-m", "pip", "install", "--disable-pip-version-check"]
        pip.append("--no-compile")  # Python compiles what is imported, which is a part of it
        command = [*pip, "-c", constraints, *requirements]
        self.installed.pop(name, None)
        try:
            run_quietly(f"Installing {name}", command, cwd, self.log)
            self.installed[name] = key
        except Failure:  # pip cleans up after an error of its own
            self.remember(busy=False)
            raise
        self.remember(busy=False)


def environment_with_cookiecutter(checkout: Checkout) -> Environment:
    environment = Environment(checkout.scratch / "venv")
    environment.create()
    key = digest_of(checkout.constraints.read_bytes())
    environment.install("cookiecutter", key, checkout.constraints, ["cookiecutter"], checkout.root)
    return environment


# --- rendering --------------------------------------------------------------------------------------------------------


def parse_answers(checkout: Checkout, pairs: Iterable[str]) -> dict[str, str]:
    """Read `key=value` words. Cookiecutter passes over a key it does not know, so a typing error is caught here.

    Raises:
        Failure: a word is not `key=value`, the template asks no such question, or this is none of its choices.
    """
    questions = checkout.questions()
    answers: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Failure(f"`{pair}` is not an answer. Write key=value, for example port=8081.")
        if name not in questions:
            raise Failure(f"The template does not ask for `{name}`. It asks for: {', '.join(questions)}.")
        choices = questions[name]
        if isinstance(choices, list) and value not in choices:
            raise Failure(f"`{value}` is no answer to `{name}`. Choose one of: {', '.join(choices)}.")
        answers[name] = value
    return answers


def run_cookiecutter(checkout: Checkout, python: Path, answers: dict[str, str], output: Path) -> Path:
    """Render into the empty directory `output`; return the project's directory.

    The configuration is our own: a `~/.cookiecutterrc` must not answer for the person who types the command, and the
    replay of this run belongs below `.scratch/`.
    """
    config = output / "cookiecutter.yaml"
    places = {"cookiecutters_dir": str(output / "cloned"), "replay_dir": str(output / "replay")}
    config.write_text("".join(f"{name}: {json.dumps(place)}\n" for name, place in places.items()), encoding="utf-8")
    rendered = output / "rendered"
    rendered.mkdir()
    command = [python, "-m", "cookiecutter", "--no-input", "--config-file", config, "-o", rendered, checkout.root]
    words = [f"{name}={value}" for name, value in answers.items()]
    done = subprocess.run(
        [str(part) for part in [*command, *words]],
        cwd=checkout.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        words_of_it = f"{done.stdout}{done.stderr}".strip()
        raise Failure(f"{words_of_it}\n\nNothing was rendered. A scratch project that was there is as it was.")
    return next(rendered.iterdir())


@contextlib.contextmanager
def freshly_rendered(checkout: Checkout, python: Path, answers: dict[str, str]) -> Iterator[Path]:
    """A project rendered into a temporary directory below `.scratch/`, which is gone afterwards, key and all."""
    checkout.scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="render-", dir=checkout.scratch) as output:
        yield run_cookiecutter(checkout, python, answers, Path(output))


@dataclass
class Manifest:
    """What the files of a scratch project looked like when the template delivered them.

    It is the common ancestor: a file that differs from it was edited in the project, and a template file that differs
    from it was edited in the template. `variants` says which files an answer replaced, and by which template file.
    """

    path: Path
    answers: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Path) -> Manifest:
        # Beside the project, not in it: it is no part of what the template makes.
        path = project.with_name(f"{project.name}.manifest.json")
        if not project.is_dir() or not path.is_file():
            return cls(path)
        state = json.loads(path.read_text(encoding="utf-8"))
        return cls(path, state["answers"], state["files"], state["variants"])

    def save(self) -> None:
        state = {"answers": self.answers, "files": self.files, "variants": self.variants}
        self.path.write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")


def deliver(fresh: Path, project: Path, manifest: Manifest) -> list[str]:
    """Move a fresh rendering into the scratch project without losing an edit.

    Files the user did not touch are replaced, or removed if the template no longer has them. Edited files stay as they
    are, and keep their old ancestor, so that `sync` can tell who changed what. An existing `.env` always stays: it
    holds the key that clients already use.

    Returns:
        The edited files that the fresh rendering would have changed or replaced.
    """
    kept = []
    arriving = list(files_below(fresh))
    for directory in (path for path in fresh.rglob("*") if path.is_dir()):
        (project / directory.relative_to(fresh)).mkdir(parents=True, exist_ok=True)
    for name in arriving:
        source, target = fresh / name, project / name
        if name == ".env":
            if not target.exists():
                os.replace(source, target)
            continue
        new = digest(source)
        if target.exists() and digest(target) not in (new, manifest.files.get(name)):
            kept.append(name)
            continue
        manifest.files[name] = new
        os.replace(source, target)
    for name in set(manifest.files) - set(arriving):
        target = project / name
        if target.exists() and digest(target) != manifest.files[name]:
            kept.append(name)
            continue
        target.unlink(missing_ok=True)
        del manifest.files[name]
    return sorted(kept)


def variants_of(checkout: Checkout, project: Path, files: dict[str, str]) -> dict[str, str]:
    """The project's files that came from a variant, such as `_variants/examples-no/`, and that template file's path."""
    package, found = package_of(project), {}
    for path in checkout.template.glob("_variants/*/src/*/**/*"):
        inside = Path(*path.relative_to(checkout.template).parts[4:])
        name = f"src/{package}/{inside.as_posix()}"
        usual = checkout.package / inside
        if path.is_file() and files.get(name) == digest(path) and not (usual.exists() and files[name] == digest(usual)):
            found[name] = path.relative_to(checkout.template).as_posix()
    return found


def render(checkout: Checkout, environment: Environment, answers: dict[str, str]) -> Path:
    """Render the template into `.scratch/project/<slug>`, over what is there; return that directory."""
    say("Rendering the template")
    with freshly_rendered(checkout, environment.python, answers) as fresh:
        project = checkout.projects / fresh.name
        manifest = Manifest.of(project)
        old_answers = manifest.answers if (project / ".env").exists() else answers
        project.mkdir(parents=True, exist_ok=True)
        kept = deliver(fresh, project, manifest)
        manifest.answers = answers
        manifest.variants = variants_of(checkout, project, manifest.files)
        manifest.save()
    for name in kept:
        say(f"  kept your edit of {name}")
    # The port is passed on by hand; every other answer of the first rendering lives on in the .env that was kept.
    if {**old_answers, "port": ""} != {**answers, "port": ""}:
        say(f"  kept {shown(project / '.env')}, with the settings of the earlier answers; delete it to get a new one")
    return project


def package_of(project: Path) -> str:
    """The team's package of a rendered project."""
    packages = [path.parent.name for path in sorted((project / "src").glob("*/__init__.py"))]
    packages = [package for package in packages if package != CHASSIS]
    if len(packages) != 1:
        raise Failure(f"Expected one package in {shown(project / 'src')}, found: {', '.join(packages) or 'none'}.")
    return packages[0]


# --- serve ------------------------------------------------------------------------------------------------------------


def read_env(path: Path) -> dict[str, str]:
    """The assignments of a `.env` file. Good enough to find a port; the server has its own, complete reader."""
    values = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                values[name.strip()] = value.strip().strip("'\"")
    return values


def choose_port(answers: dict[str, str], env: dict[str, str]) -> int:
    """The port of the command line, else of the environment, else of `.env`, in the server's own order."""
    text = answers.get("port") or os.environ.get("PORT") or env.get("PORT") or str(DEFAULT_PORT)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise Failure(f"`{text}` is not a port. Give a number from 1 to 65535, for example port=8081.")
    return int(text)


def require_free_port(port: int) -> None:
    """Raises Failure: some other program listens there, and would answer in our server's place."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if not WINDOWS:  # there the option means something else: it would let us share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            other = 8081 if port == DEFAULT_PORT else DEFAULT_PORT
            raise Failure(
                f"Port {port} on {HOST} cannot be used ({error.strerror or error}). "
                f"Stop the program that listens there, or choose another port: python dev.py serve port={other}"
            ) from None


def start_server(environment: Environment, project: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the project's server as a child.

    On POSIX it gets a session of its own: Ctrl-C then reaches this program alone, which passes on one SIGTERM, instead
    of both receiving the signal and racing each other.
    """
    return subprocess.Popen(
        [str(environment.python), "-m", package_of(project), "serve"],
        cwd=project,
        env={**os.environ, "PORT": str(port), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        start_new_session=not WINDOWS,
    )


def wait_until_live(url: str, server: subprocess.Popen[bytes]) -> None:
    """Return when `/livez` answers.

    Raises:
        Failure: the server ended, or did not answer in time.
    """
    # A proxy of the environment has no business between this program and its own loopback address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        code = server.poll()
        if code is not None:
            raise Failure(f"The server stopped with exit code {code} before it answered; its own words are above.")
        with contextlib.suppress(OSError), opener.open(f"{url}/livez", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise Failure(f"The server did not answer at {url}/livez within {START_SECONDS} seconds.")


def curl_line(url: str, env_file: Path | None, *, windows: bool = WINDOWS) -> str:
    """A line to paste that calls `hello_world`. It reads the key from `.env`, so the key is on no screen."""
    arguments = {"name": "hello_world", "arguments": {"name": "World"}}
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": arguments}, separators=(",", ":"))
    if windows:
        setup, headers = "", ""
        if env_file is not None:
            quoted = shown(env_file).replace("'", "''")
            setup = f"$key = (Select-String -Path '{quoted}' -Pattern '^API_KEY=(.+)$').Matches[0].Groups[1].Value; "
            headers = ' -Headers @{Authorization="Bearer $key"}'
        return (
            f"{setup}(Invoke-WebRequest -UseBasicParsing {url}/mcp -Method Post -ContentType application/json"
            f"{headers} -Body '{call}').Content"
        )
    key, header = "", ""
    if env_file is not None:
        key = f"sed -n 's/^API_KEY=/Authorization: Bearer /p' {shlex.quote(shown(env_file))} | "
        header = " -H @-"  # from standard input: all users of the machine can see the arguments of a program
    return f"{key}curl -s {url}/mcp{header} -H 'Content-Type: application/json' -d {shlex.quote(call)}"


def announce(url: str, project: Path, env: dict[str, str]) -> None:
    """Say where the server is and how to call it. The key itself is never printed."""
    env_file = project / ".env"
    has_key = bool(env.get("API_KEY"))
    say()
    say(f"The server runs at {url}/mcp (project: {shown(project)})")
    say(f"The key is in {shown(env_file)} as API_KEY." if has_key else "No API key is set: see the project's README.")
    say()
    say("Call it from another terminal" + (" (PowerShell):" if WINDOWS else ":"))
    say(f"  {curl_line(url, env_file if has_key else None)}")
    say()
    say("Ctrl-C stops it.")


def interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def serve(checkout: Checkout, answers: dict[str, str]) -> int:
    """Scaffold, install, start; returns when the server has stopped."""
    # A closed terminal or a plain `kill` must not leave the server behind any more than Ctrl-C does, which a shell
    # script switches off for what it starts in the background.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interrupt)
    environment = environment_with_cookiecutter(checkout)
    project = render(checkout, environment, answers)
    env = read_env(project / ".env")
    port = choose_port(answers, env)
    require_free_port(port)
    key = digest_of(str(project), (project / "pyproject.toml").read_bytes(), checkout.constraints.read_bytes())
    environment.install("the project", key, checkout.constraints, ["-e", ".[dev]"], project)
    url = f"http://{HOST}:{port}"
    say("Starting the server")
    server = start_server(environment, project, port)
    try:
        wait_until_live(url, server)
        announce(url, project, env)
        code = server.wait()
        raise Failure(f"The server stopped by itself with exit code {code}; its own words are above.")
    except KeyboardInterrupt:
        say("\nStopping the server")
        if WINDOWS:  # Ctrl-C went to the server as well, and `terminate` would cut its clean end short
            with contextlib.suppress(subprocess.TimeoutExpired):
                return server.wait(timeout=STOP_SECONDS)
        return stop(server)
    finally:
        stop(server)


# --- sync -------------------------------------------------------------------------------------------------------------


@dataclass
class Sync:
    """What `sync` found in one scratch project, by relative path."""

    copied: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    of_chassis: list[str] = field(default_factory=list)


def sync_file(source: Path, target: Path, ancestor: str | None, *, force: bool) -> bool | None:
    """Copy one edited file into the template, byte for byte.

    Returns:
        True if it was copied, None if there was nothing to do, False if the template's file changed as well.
    """
    mine = digest(source)
    theirs = digest(target) if target.exists() else None
    if mine in (ancestor, theirs):
        return None
    if theirs != ancestor and not force:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return True


def sync_project(checkout: Checkout, project: Path, *, force: bool) -> Sync:
    """Copy the edited and the new files of the team's package of one project back; report the others."""
    manifest, found = Manifest.of(project), Sync()
    package = package_of(project)
    for name in files_below(project):
        source, ancestor = project / name, manifest.files.get(name)
        parts = Path(name).parts
        if parts[:2] == ("src", CHASSIS):
            if digest(source) != ancestor:
                found.of_chassis.append(name)
            continue
        if parts[:2] != ("src", package):
            # Rendered files hold answers where the template has questions: a copy would lose the questions.
            if ancestor is not None and digest(source) != ancestor:
                found.by_hand.append(name)
            continue
        variant = manifest.variants.get(name)
        target = checkout.template / variant if variant else checkout.package.joinpath(*parts[2:])
        copied = sync_file(source, target, ancestor, force=force)
        if copied is False:
            found.conflicts.append(name)
            continue
        if copied:
            found.copied.append(name)
        if target.exists() and digest(target) == digest(source):
            manifest.files[name] = digest(source)
    manifest.save()
    return found


def sync(checkout: Checkout, *, force: bool) -> int:
    """`sync_project` for every scratch project; exit code 1 if anything was in conflict."""
    projects = sorted(path for path in checkout.projects.glob("*") if Manifest.of(path).files)
    if not projects:
        raise Failure("There is no scratch project yet. Make one with: python dev.py render")
    code = 0
    for project in projects:
        found = sync_project(checkout, project, force=force)
        say(f"{shown(project)}: " + (f"{len(found.copied)} copied" if found.copied else "nothing to copy"))
        for name in found.copied:
            say(f"  copied    {name}")
        for name in found.by_hand:
            say(f"  by hand   {name} is rendered from the template; carry your edit over yourself")
        for name in found.of_chassis:
            say(f"  by hand   {name} is edited in the template itself, in {shown(checkout.chassis)}")
        for name in found.conflicts:
            say(f"  conflict  {name} changed in the template too; merge it there, or use --force to overwrite")
            code = 1
    return code


# --- manifest ---------------------------------------------------------------------------------------------------------


def manifest_of(chassis: Path) -> str:
    """One line `<SHA-256>  <path>` for every file of the chassis, as `mcp_chassis/cli/chassis.py` reads them."""
    names = (name for name in files_below(chassis) if name != MANIFEST)
    return "".join(f"{digest(chassis / name)}  {name}\n" for name in names)


def write_manifest(checkout: Checkout) -> int:
    """Write `MANIFEST` of the chassis. Every edit of the chassis changes it."""
    path = checkout.chassis / MANIFEST
    path.write_bytes(manifest_of(path.parent).encode("ascii"))
    say(f"wrote {shown(path)}")
    return 0


# --- test -------------------------------------------------------------------------------------------------------------


def read_toml(path: Path) -> dict[str, Any]:
    import tomllib  # not there before 3.11, and the version check has to run first

    return tomllib.loads(path.read_text(encoding="utf-8"))


def requirements_of(project: Path) -> list[str]:
    """What a rendered project needs to run, to be tested and to be built, all extras included."""
    pyproject = read_toml(project / "pyproject.toml")
    metadata = pyproject["project"]
    wanted = {*pyproject["build-system"]["requires"], *metadata["dependencies"]}
    for extra in metadata.get("optional-dependencies", {}).values():
        wanted.update(extra)
    return sorted(wanted)


def test_environment(checkout: Checkout) -> Environment:
    """An environment with the template's own tools and with everything the generated projects import."""
    environment = Environment(checkout.scratch / "venv-test")
    environment.create()
    constraints = checkout.constraints.read_bytes()
    tools = read_toml(checkout.root / "pyproject.toml")["dependency-groups"]["dev"]
    key = digest_of(constraints, *tools)
    environment.install("the test tools", key, checkout.constraints, tools, checkout.root)
    # Keyed by the unrendered files: a second run need not render to find out that nothing changed.
    sources = (checkout.template / "pyproject.toml", checkout.root / "cookiecutter.json")
    key = digest_of(constraints, *(source.read_bytes() for source in sources))
    if environment.installed.get("the project's dependencies") != key:
        with freshly_rendered(checkout, environment.python, EVERY_ROOM) as project:
            wanted = requirements_of(project)
        environment.install("the project's dependencies", key, checkout.constraints, wanted, checkout.root)
    return environment


def test(checkout: Checkout, pytest_arguments: Sequence[str]) -> int:
    """Lint, type check and run pytest, whose summary is the last line. A failed check fails the run but stops nothing.

    Without arguments the tests share the processors; with arguments pytest gets exactly those.
    """
    # Many tests wait, for a container or a deadline. A file of the chassis's tests shares one server, so it stays in
    # one process.
    processes = str((os.cpu_count() or 1) + 1)
    together = ["-n", processes, "--dist", "loadgroup", "--maxschedchunk", "1", "--durations", "25"]
    pytest_arguments = pytest_arguments or together
    python = str(test_environment(checkout).python)
    checks: list[list[str]] = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "--strict", "dev.py", "docs", "hooks", "benchmarks", "tests"],
    ]

    def passes(check: list[str]) -> bool:
        command, text = [python, "-m", *check], " ".join(check)
        done = subprocess.run(command, cwd=checkout.root, check=False, capture_output=True, encoding="utf-8")
        failed = (
            f"`{text}` failed: this run ends with exit code 1, whatever the tests say.\n" if done.returncode else ""
        )
        say(f"\n$ {text}\n{done.stdout}{done.stderr}{failed}")
        return not failed

    with ThreadPoolExecutor(1) as aside:  # to check the types takes half a minute
        passed = aside.map(passes, checks)
        say(f"$ {' '.join(['pytest', *pytest_arguments])}")
        code = subprocess.run([python, "-m", "pytest", *pytest_arguments], cwd=checkout.root, check=False).returncode
        return code or int(not all(passed))


def containers(checkout: Checkout) -> int:
    """Run the tests with containers. `test` leaves them out: they take minutes and need root."""
    command = [str(test_environment(checkout).python), "-m", "pytest", "-s", "tests/containers"]
    return subprocess.run(
        command, cwd=checkout.root, env={**os.environ, "CONTAINER_TESTS": "all"}, check=False
    ).returncode


def scorecard(checkout: Checkout, *, quick: bool) -> int:
    """Make the default project, run the test behind each of its promises and the benchmark, write SCORECARD.md."""
    python = test_environment(checkout).python
    with freshly_rendered(checkout, python, {}) as project:
        command = [str(python), str(checkout.root / "benchmarks" / "scorecard.py"), str(project)]
        command += ["--quick"] if quick else []
        return subprocess.run(command, cwd=checkout.root, check=False).returncode


def run_tool(checkout: Checkout, name: str, words: Sequence[str]) -> int:
    """Run a program of `tests/` with the test environment; its arguments are its own."""
    command = [str(test_environment(checkout).python), str(checkout.root / "tests" / TOOLS[name]), *words]
    return subprocess.run(command, cwd=checkout.root, check=False).returncode


# --- the command line -------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="dev.py", description="Work on this template. See CONTRIBUTING.md.")
    commands = whole.add_subparsers(dest="command", metavar="command")
    for name, text in (("serve", "scaffold, install and start the default project"), ("render", "scaffold only")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("answers", nargs="*", metavar="key=value", help="an answer, for example port=8081")
    text = "copy edited files of the scratch project's own package back into the template"
    command = commands.add_parser("sync", help=text, description=text)
    command.add_argument("--force", action="store_true", help="overwrite template files that changed as well")
    text = "write the checksums of the chassis; every edit of it changes them"
    commands.add_parser("manifest", help=text, description=text)
    text = "build and run what a project deploys with, in containers"
    commands.add_parser("containers", help=text, description=text)
    text = "run the test behind every promise, and the benchmark, and write SCORECARD.md"
    command = commands.add_parser("scorecard", help=text, description=text)
    command.add_argument("--quick", action="store_true", help="leave the benchmark out")
    text = "make faults in security-relevant modules, which the tests near them have to notice"
    commands.add_parser("mutate", help=text, description=text)
    text = "try changed inputs on the readers of untrusted bytes"
    commands.add_parser("fuzz", help=text, description=text)
    text = "lint, type check and test everything; further arguments go to pytest"
    commands.add_parser("test", help=text, description=text, usage="dev.py test [pytest arguments]")
    return whole


def dispatch(checkout: Checkout, words: Sequence[str]) -> int:
    if words[:1] == ["test"] and words[1:2] not in (["-h"], ["--help"]):
        return test(checkout, words[1:])  # past argparse, which would take pytest's options for its own
    if words and words[0] in TOOLS:
        return run_tool(checkout, words[0], words[1:])
    arguments = parser().parse_args(words)
    if arguments.command is None:
        parser().print_help()
        return 2
    if arguments.command == "sync":
        return sync(checkout, force=arguments.force)
    if arguments.command == "manifest":
        return write_manifest(checkout)
    if arguments.command == "containers":
        return containers(checkout)
    if arguments.command == "scorecard":
        return scorecard(checkout, quick=arguments.quick)
    answers = parse_answers(checkout, arguments.answers)
    if arguments.command == "serve":
        return serve(checkout, answers)
    say(shown(render(checkout, environment_with_cookiecutter(checkout), answers)))
    return 0


def main(words: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Run one command; return the exit code."""
    if sys.version_info < OLDEST_PYTHON:
        found, needed = (".".join(map(str, version[:2])) for version in (sys.version_info, OLDEST_PYTHON))
        print(f"dev.py needs Python {needed} or newer, and this is Python {found}.", file=sys.stderr)
        return 1
    checkout = Checkout(root or Path(__file__).resolve().parent)
    try:
        return dispatch(checkout, list(sys.argv[1:] if words is None else words))
    except Failure as failure:
        print(failure, file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr, flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
