"""Projects as their owners get them: baked, built, installed, linted, typed, tested, started, and called by the client.

Not every combination of answers, but every pair of them: `pairwise` picks eighteen projects in which any two answers
that may stand together do stand together somewhere. Each is linted and typed. A dozen of them have every pair of
answers about the server: these are installed, started and called, and some of them run their own tests. The interpreter
that runs pytest has all dependencies. What is installed is a wheel in a directory of its own, so projects can be tested
side by side.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2
import jwt
import pytest
from baking import bake, copied, load_hook
from cryptography.hazmat.primitives.asymmetric import ec
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

import dev
from mcp_chassis.rooms import OFFERS, Offer

pytestmark = pytest.mark.slow

ROOT = Path(dev.__file__).parent
START_SECONDS = 30
# How the tests of a project are run.
PYTEST = ("-p", "no:xdist", "-o", f"cache_dir={ROOT / '.pytest_cache' / 'projects'}")
SWITCHES = (
    *("auth", "rate_limit", "request_logging", "audit_trail", "observability"),
    "evals",
    *("examples", "deployment", "ci", "license"),
)
Answers = dict[str, str]
# What only an optional package needs: as it is installed, and as it is imported.
DISTRIBUTIONS = {
    "auth.oauth": {"pyjwt"},
    "replicas": {"redis", "throttled-py"},
    "telemetry": {"prometheus-client"},
    "tracing": {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"},
}
IMPORTED_BY = {
    "auth.oauth": ("jwt",),
    "replicas": ("redis", "throttled"),
    "telemetry": ("prometheus_client",),
    "tracing": ("opentelemetry.sdk", "opentelemetry.exporter"),
}


# --- which projects ---------------------------------------------------------------------------------------------------


# Other answers change files that no server reads: of their pairs it is enough to make, lint and type the project.
SEED = 7
OF_THE_SERVER = ("auth", "rate_limit", "request_logging", "audit_trail", "observability", "evals", "examples")


def may_stand_together(answers: Mapping[str, str]) -> bool:
    """A container listens beyond loopback, which the server refuses to do without authentication."""
    return not (answers["auth"] == "none" and answers["deployment"] != "none")


def pairs(answers: Answers) -> set[tuple[tuple[str, str], ...]]:
    return set(itertools.combinations(sorted(answers.items()), 2))


def _gain(wanted: int, about_the_server: int, candidate: tuple[Answers, int]) -> tuple[int, int]:
    """How many pairs are new in a candidate: about the server, and of all."""
    return (candidate[1] & about_the_server).bit_count(), (candidate[1] & wanted).bit_count()


def pairwise(switches: Mapping[str, list[str]]) -> list[Answers]:
    """A small list of answers, the defaults first, that holds every pair of choices that may stand together.

    Greedy: each next project is the one with the most pairs about the server that were not seen yet, then of all pairs.
    Of equals it is the first in a shuffled order, of which the seed was chosen for a short list.
    """
    combinations = (dict(zip(switches, choice, strict=True)) for choice in itertools.product(*switches.values()))
    possible = [answers for answers in combinations if may_stand_together(answers)]
    bits: dict[tuple[tuple[str, str], ...], int] = {}  # of each pair, so that sets of them are numbers: there are many
    candidates = [
        (answers, sum(bits.setdefault(pair, 1 << len(bits)) for pair in pairs(answers))) for answers in possible
    ]
    wanted = (1 << len(bits)) - 1
    about_the_server = sum(bit for pair, bit in bits.items() if {name for name, _ in pair} <= set(OF_THE_SERVER))
    first, *others = candidates
    random.Random(SEED).shuffle(others)  # noqa: S311  (no secret)
    chosen: list[Answers] = []
    while wanted:
        best, found = max(others, key=partial(_gain, wanted, wanted & about_the_server))
        if not chosen:
            best, found = first
        chosen.append(best)
        wanted &= ~found
    return chosen


def switches() -> dict[str, list[str]]:
    """The choices of the template, the default first. Words of YAML are no lists in `cookiecutter.json`."""
    choices = load_hook("pre_gen_project").CHOICES
    return {name: list(choices[name]) for name in SWITCHES}


PROJECTS = pairwise(switches())


def served() -> list[Answers]:
    """The projects of the list that bring a pair of choices about the server that none before them has."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    chosen = []
    for answers in PROJECTS:
        new = pairs({name: answers[name] for name in OF_THE_SERVER}) - seen
        chosen += [answers] if new else []
        seen |= new
    return chosen


SERVED = served()


def with_own_tests() -> list[Answers]:
    """Of those the ones that run their own tests: every answer about the server is in one of them."""
    seen: set[tuple[str, str]] = set()
    chosen = []
    for answers in SERVED:
        about = {(name, answers[name]) for name in OF_THE_SERVER}
        chosen += [answers] if about - seen else []
        seen |= about
    return chosen


TESTED = with_own_tests()


def title(answers: Answers) -> str:
    return "-".join(answers.values())


def test_every_pair_of_answers_is_in_some_project() -> None:
    seen = set().union(*map(pairs, PROJECTS))
    for one, other in itertools.combinations(SWITCHES, 2):
        for left, right in itertools.product(switches()[one], switches()[other]):
            forbidden = one == "auth" and left == "none" and other == "deployment" and right != "none"
            assert (tuple(sorted([(one, left), (other, right)])) in seen) is not forbidden
    assert all(map(may_stand_together, PROJECTS))
    about_the_server = {pair for pair in seen if {name for name, _ in pair} <= set(OF_THE_SERVER)}
    assert about_the_server <= set().union(*map(pairs, SERVED))
    for name in OF_THE_SERVER:
        assert {answers[name] for answers in TESTED} == set(switches()[name])
    assert len(PROJECTS) <= 18, "each project costs half a minute"


# --- a project and its server -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Project:
    """A baked project, and the directory its wheel is installed in."""

    path: Path
    site: Path
    answers: Answers

    @property
    def package(self) -> str:
        return dev.package_of(self.path)

    @property
    def key(self) -> str:
        return dev.read_env(self.path / ".env")["API_KEY"]

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of this process, without what would configure the server behind our back."""
        own = {name: value for name, value in os.environ.items() if name not in {"PORT", "HOST", "API_KEY"}}
        return {**own, "RUFF_NO_CACHE": "true", "PYTHONPATH": str(self.site), "PYTHONUNBUFFERED": "1", **more}


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command that has to succeed; return what it wrote."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def python(*words: str | Path, project: Project) -> str:
    return run(sys.executable, "-m", *words, cwd=project.path, env=project.environment())


def installed(tmp_path: Path, **answers: str) -> Project:
    """Bake a project and install it as a wheel. Its dependencies and the build backend are in our environment."""
    path = bake(tmp_path / "baked", overwrite=False, hooks=True, **answers)
    return Project(path, install(path, tmp_path), answers)


@functools.cache
def installed_once(**answers: str) -> Project:
    """The same for tests that do not change it."""
    directory = tempfile.mkdtemp(prefix="installed-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return installed(Path(directory), **answers)


def install(path: Path, tmp_path: Path) -> Path:
    """Install a project as a wheel into a directory of its own, and return that."""
    site = tmp_path / "site"
    flags = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    # uv_build looks for its program on the path, and our environment is not activated.
    here = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    run(sys.executable, "-m", "pip", "install", *flags, "--target", site, path, cwd=tmp_path, env=here)
    assert any((site / "bin").iterdir()) or os.name == "nt"
    return site


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def serving(project: Project, **settings: str) -> Iterator[Server]:
    """The project's server on a free port. On POSIX it has to end with exit code 0 on SIGTERM."""
    port = free_port()
    log = project.path.parent / f"server-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", project.package, "serve"],
            cwd=project.path,
            env=project.environment(PORT=str(port), **settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_live(f"http://127.0.0.1:{port}", process, log)
        yield Server(f"http://127.0.0.1:{port}", process, log)
        if os.name != "nt":
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=15) == 0, log.read_text()
    finally:
        dev.stop(process)


def wait_until_live(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{url}/livez", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    pytest.fail(f"the server did not start (exit code {process.poll()}):\n{log.read_text()}")


# --- calling it -------------------------------------------------------------------------------------------------------

Mode = Literal["auto", "legacy"]
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "hello_world", "arguments": {"name": "World"}},
}


@asynccontextmanager
async def client(url: str, key: str | None, mode: Mode) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as connected,
    ):
        yield connected


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def greet_over_http(url: str, key: str | None, mode: Mode) -> str:
    async with client(url, key, mode) as connected:
        names = [tool.name for tool in (await connected.list_tools()).tools]
        assert "hello_world" in names
        return text_of(await connected.call_tool("hello_world", {"name": "World"}))


async def greet_over_stdio(project: Project, mode: Mode) -> str:
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", project.package, "stdio"], cwd=project.path, env=project.environment()
    )
    async with Client(stdio_client(parameters), mode=mode) as connected:
        return text_of(await connected.call_tool("hello_world", {"name": "World"}))


def post(url: str, key: str | None = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.post(f"{url}/mcp", json=CALL, headers=headers, trust_env=False)


# --- the tests --------------------------------------------------------------------------------------------------------


def check_source(project: Project) -> None:
    """What the project's own CI does."""
    python("ruff", "check", ".", project=project)
    python("ruff", "format", "--check", ".", project=project)
    python("mypy", "--strict", project=project)


def check_tests(project: Project) -> None:
    """The project's own tests, as its team runs them; the attacks where all example tools are."""
    without = () if project.answers["examples"] == "full" else ("--ignore=tests/attacks",)
    report = python("pytest", "-q", *PYTEST, *without, project=project)
    assert " passed" in report
    assert " skipped" not in report.splitlines()[-1] or sys.platform != "linux", report


def absent_offers(project: Project) -> list[Offer]:
    """The optional packages that the answers did not ask for. Traces bring metrics with them."""
    asked = {"auth": "api-key", "rate_limit": "memory", "audit_trail": "no", "evals": "no", "observability": "metrics"}
    asked |= project.answers
    if asked["observability"] == "metrics-and-traces":
        return [
            offer for offer in OFFERS if offer.question != "observability" and asked[offer.question] != offer.answer
        ]
    return [offer for offer in OFFERS if asked[offer.question] != offer.answer]


def check_files(project: Project) -> None:
    """Of an optional package there is everything or nothing, in the project and in what is installed."""
    absent = absent_offers(project)
    for offer in OFFERS:
        place = Path("mcp_chassis", *offer.package.split("."))
        for root in (project.path / "src", project.site):
            assert (root / place).exists() is (offer not in absent), offer.package
    assert not (project.site / "mcp_chassis/testing").exists()
    names = dev.requirements_of(project.path)
    installed_here = {re.split(r"[\[<>=~!; ]", name)[0].lower() for name in names}
    for offer in absent:
        assert not installed_here & DISTRIBUTIONS.get(offer.package, set())


def check_imports(project: Project, log: str) -> None:
    """What `python -X importtime` has listed: nothing of an optional package that is absent, nor what only it needs."""
    imported = {line.rpartition("|")[2].strip() for line in log.splitlines() if line.startswith("import time:")}

    def found(package: str) -> list[str]:
        return sorted(name for name in imported if name == package or name.startswith(f"{package}."))

    assert found("mcp_chassis.app")
    assert found("mcp_chassis.testing") == []
    absent = absent_offers(project)
    for offer in OFFERS:
        # `rooms.py` imports a package by its name, which is not listed; what the package imports is. Metrics and traces
        # are one module beside that, which is imported by its name or not at the start.
        own = found(f"mcp_chassis.{offer.package}")
        assert not own or offer not in absent, (offer.package, own)
        assert own or offer in absent or offer.package in {"telemetry", "tracing"}, offer.package
        # redis-py imports OpenTelemetry wherever it is installed, as it is in the environment of these tests.
        theirs = offer.package == "tracing" and bool(found("redis"))
        if offer in absent and not theirs:
            assert [name for package in IMPORTED_BY.get(offer.package, ()) for name in found(package)] == []


def check_settings_of_absent_packages(project: Project, tmp_path: Path) -> None:
    """Each is refused by name, with the line that brings the package; one that asks for nothing is not."""
    asking = [(offer, name) for offer in absent_offers(project) for name in offer.settings]
    directory = tmp_path / "settings"
    directory.mkdir()
    kept = (project.path / ".env").read_text(encoding="utf-8")
    lines = [f"{name}=another" for _, name in asking]
    (directory / ".env").write_text("\n".join([kept, *lines]) + "\n", encoding="utf-8")
    environment = project.environment(**({"OAUTH_ISSUER": "https://login.example.com"} if is_oauth(project) else {}))
    done = subprocess.run(
        [sys.executable, "-m", project.package, "serve"],
        cwd=directory,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == (78 if asking else done.returncode)
    for offer, name in asking:
        if offer.settings[name] is not None:
            assert offer.remedy(name, "another") in done.stderr
        else:
            assert name not in done.stderr


def is_oauth(project: Project) -> bool:
    return project.answers.get("auth") == "oauth"


def check_server(project: Project) -> None:
    """Closed without the key, if a key is asked for; open with it, for clients of both protocol eras."""
    with ExitStack() as stack:
        settings = {"PYTHONPROFILEIMPORTTIME": "1"}
        key = project.key
        if is_oauth(project):
            issuer = stack.enter_context(issuing())
            settings |= {"OAUTH_ISSUER": issuer.url, "OAUTH_ALLOW_HTTP_ISSUER": "true", "ENVIRONMENT": "development"}
        server = stack.enter_context(serving(project, **settings))
        refused = post(server.url)
        if project.answers["auth"] == "none":
            assert refused.json()["result"]["content"][0]["text"] == "Hello, World!"
        else:
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert post(server.url, key="x" * 43).status_code == 401
        if is_oauth(project):
            key = issuer.token(f"{server.url}/mcp")
        for mode in ("auto", "legacy"):
            assert anyio.run(greet_over_http, server.url, key, mode) == "Hello, World!"
    log = server.log.read_text()
    assert project.key not in log
    assert key is None or key not in log
    check_imports(project, log)


@pytest.mark.parametrize("answers", PROJECTS, ids=title)
def test_a_project_passes_its_own_checks_and_serves_the_official_client(answers: Answers, tmp_path: Path) -> None:
    if answers not in SERVED:
        path = bake(tmp_path, overwrite=False, hooks=True, **answers)
        check_source(Project(path, path / "src", answers))
        return
    project = installed(tmp_path, **answers)
    check_files(project)
    check_source(project)
    check_settings_of_absent_packages(project, tmp_path)
    check_server(project)
    if answers in TESTED:
        check_tests(project)


def test_attack_runs_in_the_checkout_and_finds_nothing(tmp_path: Path) -> None:
    path = copied(tmp_path)
    project = Project(path, path / "src", {})
    rows = python(project.package, "attack", project=project).splitlines()
    attacked = {row.partition("  ")[0] for row in rows}
    assert {"tool hello_world", "tool place_order", "resource orders://{number}", "prompt apology"} <= attacked
    assert all(row.endswith("  -") for row in rows[1:])


def test_attack_from_a_wheel_says_that_it_needs_the_checkout() -> None:
    """What is deployed holds no attacks."""
    project = installed_once()
    assert not (project.site / "mcp_chassis/testing").exists()
    done = subprocess.run(
        [sys.executable, "-m", project.package, "attack"],
        cwd=project.path,
        env=project.environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2
    assert "Run it in the checkout" in done.stderr
    assert "unmodified chassis" in python(project.package, "chassis", "verify", project=project)


def test_two_processes_collect_the_same_tests(tmp_path: Path) -> None:
    """pytest-xdist refuses to share tests whose names come from sets, clocks or random values."""
    project = copied(tmp_path)
    options = ("--collect-only", "-q", "-p", "no:cacheprovider")
    collected = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        report = run(sys.executable, "-m", "pytest", *options, cwd=project, env=environment)
        collected.append([line for line in report.splitlines() if "::" in line])
    assert len(collected[0]) > 50
    assert collected[0] == collected[1]


def test_the_default_project_serves_over_stdio() -> None:
    project = installed_once()
    for mode in ("auto", "legacy"):
        assert anyio.run(greet_over_stdio, project, mode) == "Hello, World!"


def test_the_installed_command_is_the_module() -> None:
    project = installed_once()
    (script,) = (path for path in (project.site / "bin").iterdir() if path.stem == project.path.name)
    usage = run(sys.executable, script, "--help", cwd=project.path, env=project.environment())
    assert all(command in usage for command in ("serve", "stdio", "check", "healthcheck"))
    assert "usable; it would listen" in python(project.package, "check", project=project)


class Issuer:
    """An authorization server as far as a resource server sees one: its metadata, its public key, its tokens."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self.documents: dict[str, Any] = {
            "/.well-known/oauth-authorization-server": {"issuer": url, "jwks_uri": f"{url}/keys"},
            "/keys": {"keys": [{**public, "kid": "one", "use": "sig", "alg": "ES256"}]},
        }

    def token(self, audience: str, *, lifetime: int = 300) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "sub": "alice", "aud": audience, "iat": now, "exp": now + lifetime}
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "one", "typ": "at+jwt"})


@contextmanager
def issuing() -> Iterator[Issuer]:
    class Documents(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = issuer.documents.get(self.path)
            self.send_response(404 if document is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name in the standard library)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Documents) as server:
        issuer = Issuer(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield issuer
        finally:
            server.shutdown()


def test_an_oauth_project_takes_the_tokens_of_its_issuer_that_are_meant_for_it() -> None:
    project = installed_once(auth="oauth")
    with issuing() as issuer:
        development = {"OAUTH_ALLOW_HTTP_ISSUER": "true", "ENVIRONMENT": "development"}
        with serving(project, OAUTH_ISSUER=issuer.url, **development) as server:
            refused = post(server.url)
            assert refused.status_code == 401
            assert "resource_metadata=" in refused.headers["www-authenticate"]
            assert post(server.url, issuer.token("https://another.example/mcp")).status_code == 401
            assert post(server.url, issuer.token(f"{server.url}/mcp", lifetime=-60)).status_code == 401
            assert post(server.url, Issuer(issuer.url).token(f"{server.url}/mcp")).status_code == 401
            token = issuer.token(f"{server.url}/mcp")
            for mode in ("auto", "legacy"):
                assert anyio.run(greet_over_http, server.url, token, mode) == "Hello, World!"
        assert token not in server.log.read_text()


def test_an_oauth_project_does_not_start_before_it_knows_its_issuer() -> None:
    project = installed_once(auth="oauth")
    command = [sys.executable, "-m", project.package, "serve"]
    done = subprocess.run(
        command, cwd=project.path, env=project.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert "OAUTH_ISSUER" in done.stderr


@contextmanager
def redis() -> Iterator[str]:
    """A Redis of our own, in memory only."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        dev.stop(process)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_two_servers_with_one_redis_have_one_rate_limit(tmp_path: Path) -> None:
    """With a limit in each process, 16 of 20 requests would pass."""
    project = installed(tmp_path, rate_limit="redis")
    settings = {"MAX_REQUESTS_PER_MINUTE": "1", "RATE_LIMIT_BURST": "8"}
    with redis() as url, serving(project, REDIS_URL=url, **settings) as one:
        with serving(project, REDIS_URL=url, **settings) as other:
            statuses = [post(server.url, project.key).status_code for _ in range(10) for server in (one, other)]
        assert statuses == [200] * 8 + [429] * 12


def test_the_oldest_supported_cookiecutter_makes_the_same_project(tmp_path: Path) -> None:
    """2.6 and the one that runs these tests differ in hooks, in prompts and in how they read switches."""
    venv.create(tmp_path / "venv", with_pip=True)
    old = dev.Environment(tmp_path / "venv").python
    pip = (old, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "cookiecutter==2.6.0", cwd=tmp_path)
    config = tmp_path / "config.yaml"
    places = {"cookiecutters_dir": str(tmp_path / "cloned"), "replay_dir": str(tmp_path / "replay")}
    config.write_text(json.dumps(places), encoding="utf-8")
    command = (old, "-m", "cookiecutter", "--no-input", "--config-file", config, "-o", tmp_path / "old", ROOT)
    run(*command, cwd=tmp_path)
    (project,) = (tmp_path / "old").iterdir()
    newest = bake(tmp_path / "new")
    assert contents(project) == contents(newest)
    assert dev.read_env(project / ".env")["API_KEY"] != dev.read_env(newest / ".env")["API_KEY"]


def contents(project: Path) -> dict[str, Any]:
    return {name: (project / name).read_bytes() for name in dev.files_below(project) if name != ".env"}
