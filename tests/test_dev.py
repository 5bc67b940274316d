"""`dev.py`: the edits of a person survive every command, nothing is done twice, and mistakes get a sentence."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import picture
import pytest

import dev

ROOT = Path(dev.__file__).parent
SRC = "src/acme"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> dev.Checkout:
    """A template of three files, with a render that needs no cookiecutter (see `rendered`)."""
    checkout = dev.Checkout(tmp_path / "checkout")
    questions = {"project_slug": "acme-mcp", "port": "8080", "ci": ["github", "none"], "_private": []}
    write(checkout.root / "cookiecutter.json", json.dumps(questions))
    write(checkout.constraints, "cookiecutter==2.7.1\n")
    write(checkout.package / "__init__.py", "")
    write(checkout.package / "app.py", "one\n")
    write(checkout.template / "README.md", "# {{ cookiecutter.project_slug }}\n")
    return checkout


@contextmanager
def rendered(checkout: dev.Checkout, python: Path, answers: dict[str, str]) -> Iterator[Path]:
    """Stands in for `freshly_rendered`: the same layout, made by copying."""
    fresh = checkout.scratch / "fresh" / answers.get("project_slug", "acme-mcp")
    shutil.copytree(checkout.package, fresh / SRC)
    if "examples" in answers:
        variant = checkout.template / "_variants" / f"examples-{answers['examples']}"
        shutil.copytree(variant / "src" / checkout.package.name, fresh / SRC, dirs_exist_ok=True)
    write(fresh / "README.md", "# acme-mcp\n")
    write(fresh / ".env", f"API_KEY={time.monotonic_ns()}\n").chmod(0o600)
    (fresh / "data").mkdir()
    yield fresh
    shutil.rmtree(fresh)


@pytest.fixture
def project(checkout: dev.Checkout, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(dev, "freshly_rendered", rendered)
    return render(checkout)


def render(checkout: dev.Checkout, **answers: str) -> Path:
    return dev.render(checkout, dev.Environment(checkout.scratch / "venv"), answers)


# --- rendering over a scratch project ---------------------------------------------------------------------------------


def test_a_second_rendering_brings_edited_template_files(checkout: dev.Checkout, project: Path) -> None:
    write(checkout.package / "app.py", "two\n")
    write(checkout.package / "new.py", "new\n")
    render(checkout)
    assert (project / SRC / "app.py").read_text() == "two\n"
    assert (project / SRC / "new.py").read_text() == "new\n"


def test_a_second_rendering_keeps_the_env_file_byte_for_byte(checkout: dev.Checkout, project: Path) -> None:
    before = (project / ".env").read_bytes()
    render(checkout)
    assert (project / ".env").read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
def test_the_env_file_arrives_with_its_mode(project: Path) -> None:
    assert (project / ".env").stat().st_mode & 0o777 == 0o600


def test_a_second_rendering_keeps_edits_and_says_so(
    checkout: dev.Checkout, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project / SRC / "app.py", "mine\n")
    write(checkout.package / "app.py", "two\n")
    render(checkout)
    assert (project / SRC / "app.py").read_text() == "mine\n"
    assert "kept your edit of src/acme/app.py" in capsys.readouterr().out


def test_an_untouched_file_that_left_the_template_leaves_the_project(checkout: dev.Checkout, project: Path) -> None:
    (checkout.package / "app.py").unlink()
    render(checkout)
    assert not (project / SRC / "app.py").exists()


def test_an_edited_file_that_left_the_template_stays(checkout: dev.Checkout, project: Path) -> None:
    write(project / SRC / "app.py", "mine\n")
    (checkout.package / "app.py").unlink()
    render(checkout)
    assert (project / SRC / "app.py").read_text() == "mine\n"


def test_a_file_the_user_added_survives_a_template_file_of_that_name(checkout: dev.Checkout, project: Path) -> None:
    write(project / SRC / "tools.py", "mine\n")
    write(checkout.package / "tools.py", "theirs\n")
    render(checkout)
    assert (project / SRC / "tools.py").read_text() == "mine\n"


def test_empty_directories_arrive(project: Path) -> None:
    assert (project / "data").is_dir()


def test_other_answers_with_an_old_env_file_are_pointed_out(
    checkout: dev.Checkout, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    render(checkout, port="9000")
    assert ".env" not in capsys.readouterr().out  # the port is passed to the server, so nothing is stale
    render(checkout, auth="none")
    assert "with the settings of the earlier answers" in capsys.readouterr().out


# --- sync -------------------------------------------------------------------------------------------------------------


def test_sync_copies_edited_and_new_source_files_byte_for_byte(
    checkout: dev.Checkout, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / SRC / "app.py").write_bytes(b"mine\r\n\xef\xbb\xbf {{ braces }}\n")
    write(project / SRC / "tools" / "weather.py", "sunny\n")
    assert dev.sync(checkout, force=False) == 0
    assert (checkout.package / "app.py").read_bytes() == b"mine\r\n\xef\xbb\xbf {{ braces }}\n"
    assert (checkout.package / "tools" / "weather.py").read_text() == "sunny\n"
    out = capsys.readouterr().out
    assert "copied    src/acme/app.py" in out
    assert "copied    src/acme/tools/weather.py" in out
    assert "__init__" not in out


def test_sync_again_has_nothing_to_do(
    checkout: dev.Checkout, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project / SRC / "app.py", "mine\n")
    dev.sync(checkout, force=False)
    capsys.readouterr()
    assert dev.sync(checkout, force=False) == 0
    assert "nothing to copy" in capsys.readouterr().out
    write(checkout.package / "app.py", "later\n")  # after a sync the two are one again: this is no conflict
    render(checkout)
    assert (project / SRC / "app.py").read_text() == "later\n"


def test_sync_never_overwrites_a_template_file_that_changed_since(
    checkout: dev.Checkout, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project / SRC / "app.py", "mine\n")
    write(checkout.package / "app.py", "theirs\n")
    assert dev.sync(checkout, force=False) == 1
    assert (checkout.package / "app.py").read_text() == "theirs\n"
    assert "conflict  src/acme/app.py" in capsys.readouterr().out
    render(checkout)  # a rendering in between must not make the conflict look like an ordinary edit
    assert dev.sync(checkout, force=False) == 1
    assert dev.sync(checkout, force=True) == 0
    assert (checkout.package / "app.py").read_text() == "mine\n"


def test_sync_sees_a_new_file_that_both_sides_added(checkout: dev.Checkout, project: Path) -> None:
    write(project / SRC / "tools.py", "mine\n")
    write(checkout.package / "tools.py", "theirs\n")
    assert dev.sync(checkout, force=False) == 1
    assert (checkout.package / "tools.py").read_text() == "theirs\n"


def test_sync_leaves_alone_what_only_the_template_changed(checkout: dev.Checkout, project: Path) -> None:
    write(checkout.package / "app.py", "theirs\n")
    assert dev.sync(checkout, force=False) == 0
    assert (checkout.package / "app.py").read_text() == "theirs\n"


def test_sync_never_deletes(checkout: dev.Checkout, project: Path) -> None:
    (project / SRC / "app.py").unlink()
    assert dev.sync(checkout, force=False) == 0
    assert (checkout.package / "app.py").exists()


def test_sync_passes_by_what_tools_left_behind(checkout: dev.Checkout, project: Path) -> None:
    write(project / SRC / "__pycache__" / "app.cpython-311.pyc", "x")
    write(project / SRC / "stray.pyc", "x")
    assert dev.sync(checkout, force=False) == 0
    assert sorted(path.name for path in checkout.package.rglob("*")) == ["__init__.py", "app.py"]


def test_sync_warns_about_edited_rendered_files_and_copies_none(
    checkout: dev.Checkout, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project / "README.md", "# mine\n")
    write(project / ".env", "API_KEY=changed\n")
    assert dev.sync(checkout, force=False) == 0
    out = capsys.readouterr().out
    assert "by hand   README.md" in out
    assert ".env" not in out
    assert (checkout.template / "README.md").read_text() == "# {{ cookiecutter.project_slug }}\n"
    assert not (checkout.template / ".env").exists()


def test_sync_says_that_the_chassis_is_edited_in_the_template(
    checkout: dev.Checkout, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project / "src/mcp_chassis/app.py", "mine\n")
    write(project / SRC / "app.py", "mine\n")
    assert dev.sync(checkout, force=False) == 0
    out = capsys.readouterr().out
    assert "copied    src/acme/app.py" in out
    assert "by hand   src/mcp_chassis/app.py is edited in the template itself" in out
    assert not checkout.chassis.exists()


def test_sync_takes_an_edited_variant_back_to_the_variant(checkout: dev.Checkout, project: Path) -> None:
    variant = write(checkout.template / "_variants/examples-no/src" / checkout.package.name / "app.py", "bare\n")
    render(checkout, examples="no")
    assert (project / SRC / "app.py").read_text() == "bare\n"
    write(project / SRC / "app.py", "barer\n")
    assert dev.sync(checkout, force=False) == 0
    assert variant.read_text() == "barer\n"
    assert (checkout.package / "app.py").read_text() == "one\n"


def test_sync_without_a_scratch_project_says_how_to_get_one(
    checkout: dev.Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dev.main(["sync"], checkout.root) == 1
    assert "python dev.py render" in capsys.readouterr().err


# --- answers, ports, environments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("port", "key=value"),
        ("prot=1", "does not ask for `prot`"),
        ("_private=1", "does not ask"),
        ("ci=gitlab", "Choose one of: github, none."),
    ],
)
def test_a_mistyped_answer_is_refused(
    checkout: dev.Checkout, capsys: pytest.CaptureFixture[str], word: str, part: str
) -> None:
    assert dev.main(["render", word], checkout.root) == 1
    assert part in capsys.readouterr().err


def test_an_answer_may_hold_an_equals_sign_and_be_empty(checkout: dev.Checkout) -> None:
    assert dev.parse_answers(checkout, ["project_slug=a=b", "port="]) == {"project_slug": "a=b", "port": ""}


def test_the_port_follows_the_order_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORT", raising=False)
    assert dev.choose_port({}, {}) == 8080
    assert dev.choose_port({}, {"PORT": "8090"}) == 8090
    monkeypatch.setenv("PORT", "8091")
    assert dev.choose_port({}, {"PORT": "8090"}) == 8091
    assert dev.choose_port({"port": "8092"}, {"PORT": "8090"}) == 8092


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "8080 ", "\u0668\u0660", "9" * 5000])
def test_an_impossible_port_is_refused(port: str) -> None:
    with pytest.raises(dev.Failure, match="is not a port"):
        dev.choose_port({"port": port}, {})


def test_a_taken_port_is_reported_with_another_one_to_try() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(dev.Failure, match=rf"Port {port} on 127\.0\.0\.1 cannot be used .* port=8080"):
            dev.require_free_port(port)
    dev.require_free_port(port)


def test_the_env_file_is_read_past_comments_and_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / ".env", "# PORT=1\nPORT = '8090'\nAPI_KEY=a=b\n\nnonsense\n")
    assert dev.read_env(path) == {"PORT": "8090", "API_KEY": "a=b"}
    assert dev.read_env(tmp_path / "absent") == {}


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Records the commands instead of running them; a virtual environment is its interpreter, no more."""
    commands: list[list[str]] = []

    def record(step: str, command: list[str | Path], cwd: Path, log: Path) -> None:
        words = [str(word) for word in command]
        commands.append(words)
        if "venv" in words:
            write(dev.Environment(Path(words[-1])).python, "")

    monkeypatch.setattr(dev, "run_quietly", record)
    return commands


def test_nothing_is_installed_twice_for_the_same_inputs(checkout: dev.Checkout, pip: list[list[str]]) -> None:
    dev.environment_with_cookiecutter(checkout)
    assert len(pip) == 2
    assert pip[1][-3:] == ["-c", str(checkout.constraints), "cookiecutter"]
    dev.environment_with_cookiecutter(checkout)
    assert len(pip) == 2
    write(checkout.constraints, "cookiecutter==2.6.0\n")
    dev.environment_with_cookiecutter(checkout)
    assert len(pip) == 3


def test_an_interrupted_installation_is_made_anew(
    checkout: dev.Checkout, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dev.environment_with_cookiecutter(checkout)
    environment = dev.Environment(checkout.scratch / "venv")
    environment.create()
    with monkeypatch.context() as context:
        context.setattr(dev, "run_quietly", interrupted)
        with pytest.raises(KeyboardInterrupt):
            environment.install("more", "key", checkout.constraints, ["more"], checkout.root)
    pip.clear()
    dev.environment_with_cookiecutter(checkout)
    assert "venv" in pip[0]


def test_a_failed_installation_is_tried_again_in_the_same_environment(
    checkout: dev.Checkout, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dev.environment_with_cookiecutter(checkout)
    write(checkout.constraints, "cookiecutter==0\n")
    with monkeypatch.context() as context:
        context.setattr(dev, "run_quietly", failing)
        with pytest.raises(dev.Failure, match="no such version"):
            dev.environment_with_cookiecutter(checkout)
    pip.clear()
    dev.environment_with_cookiecutter(checkout)
    assert len(pip) == 1
    assert "pip" in pip[0]


def failing(*arguments: object) -> None:
    raise dev.Failure("no such version")


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_moved_checkout_gets_a_new_environment(checkout: dev.Checkout, pip: list[list[str]], tmp_path: Path) -> None:
    dev.environment_with_cookiecutter(checkout)
    moved = dev.Checkout(checkout.root.rename(tmp_path / "moved"))
    pip.clear()
    dev.environment_with_cookiecutter(moved)
    assert "venv" in pip[0]


def test_a_failing_step_shows_the_end_of_its_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "import sys; [print('line', n) for n in range(100)]; sys.exit(3)"
    with pytest.raises(dev.Failure, match=r"(?s)line 99.*Trying: failed with exit code 3") as caught:
        dev.run_quietly("Trying", [sys.executable, "-c", program], tmp_path, tmp_path / "log")
    assert "line 10\n" not in str(caught.value)
    assert "line 10\n" in (tmp_path / "log").read_text()


def test_a_slow_step_shows_that_it_is_alive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev.run_quietly("Waiting", [sys.executable, "-c", "import time; time.sleep(1.5)"], tmp_path, tmp_path / "log")
    assert re.fullmatch(r"Waiting \.+ \d s\n", capsys.readouterr().out)


def test_the_requirements_of_a_project_are_all_of_them(tmp_path: Path) -> None:
    write(
        tmp_path / "pyproject.toml",
        '[build-system]\nrequires = ["uv_build"]\n[project]\ndependencies = ["mcp"]\n'
        '[project.optional-dependencies]\ndev = ["pytest"]\nredis = ["redis", "mcp"]\n',
    )
    assert dev.requirements_of(tmp_path) == ["mcp", "pytest", "redis", "uv_build"]


# --- the line to paste ------------------------------------------------------------------------------------------------


def test_the_curl_line_has_the_key_neither_in_it_nor_in_an_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = write(tmp_path / "it's here" / ".env", "API_KEY=secret\n")
    line = dev.curl_line("http://127.0.0.1:1", env, windows=False)
    assert "secret" not in line
    spoken = subprocess.run(
        ["bash", "-c", f"curl() {{ printf '%s\\n' \"$@\"; echo ---; cat; }}; {line}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    arguments, read = spoken.split("---\n")
    assert "secret" not in arguments, "other users of the machine can see them"
    assert "\n-H\n@-\n" in arguments
    assert read == "Authorization: Bearer secret\n"
    assert '{"jsonrpc":"2.0","id":1,"method":"tools/call"' in arguments


def test_the_powershell_line_reads_the_key_too(tmp_path: Path) -> None:
    line = dev.curl_line("http://127.0.0.1:1", tmp_path / "it's" / ".env", windows=True)
    assert "it''s" in line
    assert 'Authorization="Bearer $key"' in line


def test_without_a_key_there_is_no_authorization_header() -> None:
    for windows in (True, False):
        assert "Authorization" not in dev.curl_line("http://127.0.0.1:1", None, windows=windows)


# --- waiting for the server -------------------------------------------------------------------------------------------


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name in the standard library)
        pass


def child(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program])


def test_a_server_that_dies_is_not_waited_for() -> None:
    with pytest.raises(dev.Failure, match="stopped with exit code 78"):
        dev.wait_until_live("http://127.0.0.1:9", child("raise SystemExit(78)"))


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "START_SECONDS", 0.5)
    server = child("import time; time.sleep(60)")
    try:
        with pytest.raises(dev.Failure, match="did not answer"):
            dev.wait_until_live("http://127.0.0.1:9", server)
    finally:
        dev.stop(server)
    assert server.poll() is not None


def test_a_server_that_answers_is_found_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = child("import time; time.sleep(60)")
    with HTTPServer(("127.0.0.1", 0), Answering) as answering:
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        try:
            dev.wait_until_live(f"http://127.0.0.1:{answering.server_port}", server)
        finally:
            answering.shutdown()
            dev.stop(server)


# --- the command line -------------------------------------------------------------------------------------------------


def test_an_old_python_can_read_the_file_and_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ast.parse(Path(dev.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    monkeypatch.setattr(sys, "version_info", (3, 10, 9, "final", 0))
    assert dev.main(["serve"]) == 1
    assert capsys.readouterr().err == "dev.py needs Python 3.11 or newer, and this is Python 3.10.\n"


def test_no_command_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.main([]) == 2
    out = capsys.readouterr().out
    assert all(command in out for command in ("serve", "render", "sync", "test"))


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        dev.main(["sreve"])
    assert caught.value.code == 2
    assert "serve" in capsys.readouterr().err


@pytest.mark.parametrize("case", [("", 0, 0), ("", 5, 5), ("ruff", 0, 1), ("mypy", 0, 1), ("mypy", 2, 2)])
def test_the_test_command_checks_passes_arguments_on_and_keeps_the_exit_code(
    checkout: dev.Checkout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: tuple[str, int, int],
) -> None:
    failing, code, expected = case
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command[2:])
        ended_with = code if command[2] == "pytest" else int(command[2] == failing)
        return subprocess.CompletedProcess(command, ended_with, f"{command[2]} says\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(dev, "test_environment", lambda checkout: dev.Environment(checkout.scratch / "venv"))
    assert dev.main(["test", "-k", "this and that", "--force"], checkout.root) == expected
    assert ["pytest", "-k", "this and that", "--force"] in ran
    checks = [words for words in ran if words[0] != "pytest"]
    assert [words[0] for words in checks] == ["ruff", "ruff", "mypy"]
    assert "--strict" in checks[2]
    said = capsys.readouterr().out
    assert said.count("ruff says") == 2
    assert ("failed: this run ends with exit code 1" in said) is bool(failing)


# --- the whole way of a newcomer --------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy_of_the_checkout(to: Path) -> Path:
    """What a fresh clone would hold, from a checkout that may have uncommitted files."""
    ignored = shutil.ignore_patterns(".git", ".scratch", ".*_cache", "__pycache__", ".hypothesis", "*.pyc", ".venv")
    return Path(shutil.copytree(ROOT, to, ignore=ignored))


class Served:
    """`python dev.py serve` under observation."""

    def __init__(self, root: Path, *words: str) -> None:
        self.output = root.parent / "output.txt"
        with self.output.open("wb") as out:
            # From another directory, because people do.
            self.process = subprocess.Popen(
                [sys.executable, str(root / "dev.py"), "serve", *words],
                cwd=root.parent,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=os.name != "nt",
            )

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def until(self, condition: Callable[[str], bool], seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if condition(self.text()):
                return self.text()
            time.sleep(0.2)
        pytest.fail(f"dev.py serve did not get there:\n{self.text()}")

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)


def unchanging(line: str) -> str:
    """What is the same on every machine: the dots and seconds of a step, and the id of a request, are not."""
    return re.sub(r' \.* \d+ s$|"request_id":"[^"]+"', "", line)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a test cannot type Ctrl-C into another Windows console")
def test_serve_from_a_fresh_checkout_answers_the_printed_line_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    root, port = copy_of_the_checkout(tmp_path / "check out"), free_port()
    served = Served(root, f"port={port}")
    try:
        text = served.until(lambda text: "Ctrl-C stops it." in text, seconds=300)
        project = next(path for path in (root / ".scratch" / "project").iterdir() if path.is_dir())
        env = (project / ".env").read_bytes()
        key = dev.read_env(project / ".env")["API_KEY"]
        line = next(line for line in text.splitlines() if line.startswith("  sed "))
        if shutil.which("curl"):
            done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert "Hello, World!" in done.stdout
            refused = subprocess.run(
                ["bash", "-c", picture.without_key(line)], capture_output=True, text=True, check=True
            )
            # The picture in the README holds the same steps and the same answers.
            seen = [*text.splitlines(), done.stdout.strip(), refused.stdout.strip()]
            drawn = [line for line in picture.read() if not line.startswith(("$ ", "  sed ", "The "))]
            assert [unchanging(line) for line in drawn if unchanging(line) not in map(unchanging, seen)] == []
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez") as answer:
            assert answer.status == 200
        assert served.interrupt() in (0, 130)
    finally:
        dev.stop(served.process)
    assert key not in served.text()
    assert "Traceback" not in served.text()
    dev.require_free_port(port)  # the server went with it

    started = time.monotonic()
    served = Served(root, f"port={port}")
    try:
        text = served.until(lambda text: "Ctrl-C stops it." in text, seconds=60)
        assert time.monotonic() - started < 30
        assert "Installing" not in text
        assert (project / ".env").read_bytes() == env
        served.process.terminate()  # a plain `kill` takes the server along as well
        assert served.process.wait(timeout=30) in (0, 130)
    finally:
        dev.stop(served.process)
    dev.require_free_port(port)


@pytest.mark.parametrize(("name", "program"), dev.TOOLS.items())
def test_a_tool_runs_with_the_test_environment_and_its_own_arguments(
    checkout: dev.Checkout, monkeypatch: pytest.MonkeyPatch, name: str, program: str
) -> None:
    started: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 3)

    environment = dev.Environment(checkout.scratch / "venv-test")
    monkeypatch.setattr(dev, "test_environment", lambda _: environment)
    monkeypatch.setattr(subprocess, "run", run)
    assert dev.main([name, "--seconds", "5", "x"], root=checkout.root) == 3
    assert started == [[str(environment.python), str(checkout.root / "tests" / program), "--seconds", "5", "x"]]
    assert (ROOT / "tests" / program).is_file()
