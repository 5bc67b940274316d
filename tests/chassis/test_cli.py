"""The command line."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcp_chassis import Service, cli
from mcp_chassis.settings import EXIT_CONFIG
from secure_mcp_server import __main__, __version__
from secure_mcp_server.server import SERVER

from .support.project import CHASSIS, PACKAGE, PROJECT
from .support.running import environment, free_port, running_server, wait_until

KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where there is no `.env`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY", KEY)


def test_check_says_what_is_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(SERVER, ["check", "--port", "8081"]) == 0
    said = capsys.readouterr().out
    assert "127.0.0.1:8081" in said
    assert KEY not in said


@pytest.mark.parametrize("command", ["serve", "stdio", "healthcheck"])
def test_unusable_settings_are_all_named_and_end_with_78(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_KEY", "tiny-key")
    monkeypatch.setenv("PORT", "much")
    assert cli.run(SERVER, [command]) == EXIT_CONFIG == 78
    output = capsys.readouterr()
    assert output.out == ""
    assert "API_KEY: is shorter than 32 characters" in output.err
    assert "PORT: " in output.err
    assert "tiny-key" not in output.err
    assert "Traceback" not in output.err


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PORT", "1001")
    monkeypatch.setenv("HOST", "0.0.0.0")
    assert cli.run(SERVER, ["check", "--host", "::1", "--port", "1002"]) == 0
    assert "::1:1002" in capsys.readouterr().out
    assert cli.run(SERVER, ["check"]) == EXIT_CONFIG, "beyond loopback PUBLIC_URL is needed"


@pytest.mark.parametrize("arguments", [[], ["dance"], ["serve", "--port", "much"]])
def test_a_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(SERVER, arguments)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "fish", "powershell", "tcsh", "zsh"])
def test_every_command_can_be_completed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(SERVER, ["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in ("serve", "client-config", "rotate"))


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["keys"], ["keys", "create"], ["tools", "lock"]])
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(SERVER, [*command, "--help"])
    assert end.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_code_does_not_change_in_production(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    for command in (["serve", "--reload"], ["dev"], ["dev", "--inspector"]):
        assert cli.run(SERVER, command) == EXIT_CONFIG
        assert "ENVIRONMENT: is production" in capfd.readouterr().err


@pytest.mark.parametrize("how", [["serve", "--reload"], ["dev"]], ids=" ".join)
def test_serve_starts_again_when_the_code_changes(how: list[str], tmp_path: Path) -> None:
    """With a copy of the project, whose code the test may change."""
    package, port = tmp_path / "src" / PACKAGE, free_port()
    shutil.copytree(PROJECT / "src" / PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROJECT / "scripts", tmp_path / "scripts")
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    environment = os.environ | {
        "PYTHONPATH": f"{package.parent}{os.pathsep}{CHASSIS}",
        "ENABLE_AUTH": "false",
        "SECRETS_DIR": os.devnull,
    }
    command = [sys.executable, "-m", package.name, *how, f"--port={port}"]

    def greeting() -> str:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        params = {"name": "hello_world", "arguments": {"name": "World"}}
        try:
            return httpx2.post(f"http://127.0.0.1:{port}/mcp", json=message | {"params": params}, trust_env=False).text
        except httpx2.TransportError:
            return ""

    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            wait_until(lambda: "Hello, World!" in greeting(), seconds=60)
            tool = package / "tools" / "hello.py"
            text = tool.read_text(encoding="utf-8")
            tool.write_text(f"{text}\n\ndef unfinished(:\n", encoding="utf-8")
            wait_until(lambda: f"{tool}:" in (tmp_path / "log").read_text(), seconds=60)
            tool.write_text(text.replace("Hello, ", "Welcome, "), encoding="utf-8")
            wait_until(lambda: "Welcome, World!" in greeting(), seconds=60)
        finally:
            process.terminate()
        assert process.wait(30) == 0
    said = (tmp_path / "log").read_text()
    assert f"{tool}:{len(text.splitlines()) + 3}: invalid syntax\n" in said
    assert "Traceback" not in said
    assert "importlib" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="npx is a program of the test's own")
def test_dev_prints_what_a_client_needs_and_the_inspector_gets_no_key(tmp_path: Path) -> None:
    """The Inspector is a stand-in that writes down its arguments and its environment, and runs until it is stopped."""
    bin_directory, port = tmp_path / "bin", str(free_port())
    bin_directory.mkdir()
    npx = bin_directory / "npx"
    seen_by_it = '{ echo "$@"; cat "$4"; echo; env; } > "$SEEN.new"; mv "$SEEN.new" "$SEEN"; exec sleep 1000'
    npx.write_text(f"#!/bin/sh\n{seen_by_it}\n")
    npx.chmod(0o755)
    variables = environment(api_key=KEY, port=port, seen=str(tmp_path / "seen"))
    variables["PATH"] = f"{bin_directory}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", PACKAGE, "dev", "--inspector"]
    log = tmp_path / "err"
    with (
        (tmp_path / "out").open("wb") as out,
        log.open("wb") as err,
        subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=out, stderr=err) as process,
    ):
        try:
            wait_until(lambda: (tmp_path / "seen").exists() and "Uvicorn running on" in log.read_text(), seconds=60)
        finally:
            process.terminate()
        assert process.wait(30) == 0
    url = f"http://127.0.0.1:{port}/mcp"
    inspector = "@modelcontextprotocol/inspector"
    said, seen = (tmp_path / "out").read_text(), (tmp_path / "seen").read_text()
    assert said == f"URL        {url}\nKey        API_KEY in the environment\nInspector  npx {inspector}\n\n"
    arguments, catalog, *_ = seen.splitlines()
    assert arguments.startswith(f"--yes {inspector} --catalog ")
    assert json.loads(catalog) == {"mcpServers": {SERVER.name: {"type": "http", "url": url}}}
    assert not Path(arguments.split()[-1]).exists(), "the Inspector writes the key into it"
    assert "tools.lock.json is missing" in log.read_text(), "the lock is a warning"
    assert f"the MCP endpoint is ready     url={url}\n" in re.sub(" +url=", "     url=", log.read_text())
    assert not log.read_text().startswith("{"), "the log is for people"
    assert KEY not in said + seen + log.read_text()


def test_dev_says_where_npx_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.run(SERVER, ["dev", "--inspector"]) == EXIT_CONFIG
    assert "Install Node.js" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("stop", "number"),
    [(os.killpg, signal.SIGINT), (os.killpg, signal.SIGTERM), (os.kill, signal.SIGTERM)],
    ids=["Ctrl-C in a terminal", "a terminal that closes", "the command alone"],
)
def test_a_script_stops_with_its_command(stop: Callable[[int, int], None], number: int, tmp_path: Path) -> None:
    """The command ends without a traceback, and the script does not go on alone."""
    port = str(free_port())
    command = [sys.executable, "-m", PACKAGE, "dev"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(api_key=KEY, port=port),
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        wait_until(lambda: "Uvicorn running on" in (tmp_path / "log").read_text(), seconds=60)
        stop(process.pid, number)
        assert process.wait(30) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0, "the server still runs"


def test_serve_on_a_port_that_is_taken_ends_with_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", PACKAGE, "serve", f"--port={port}"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(api_key=KEY), capture_output=True, text=True, check=False
        )
    assert done.returncode == EXIT_CONFIG
    assert "the MCP endpoint is ready" not in done.stderr
    advice = f"Stop it, or choose another port: `--port {port + 1}`, or PORT in .env."
    sentence = f"PORT: another program listens on 127.0.0.1:{port}. {advice}"
    assert done.stderr.endswith(f"These settings cannot be used:\n  {sentence}\n")
    assert "address already in use" not in done.stderr, "uvicorn's own line"


def test_serve_on_a_host_that_is_no_address_here_names_the_setting(tmp_path: Path) -> None:
    command = [sys.executable, "-m", PACKAGE, "serve", "--host=nosuch.invalid", f"--port={free_port()}"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(api_key=KEY, public_url="https://mcp.example.com"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_CONFIG
    sentence = "HOST: nosuch.invalid is no address or name of this machine."
    assert done.stderr.endswith(f"These settings cannot be used:\n  {sentence}\n")


@pytest.mark.parametrize("command", ["serve", "stdio"])
def test_a_misspelled_setting_is_warned_of_at_the_start(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No refusal: the name may be meant for another program."""
    monkeypatch.setenv("MAX_REQUEST_PER_MINUTE", "7")
    monkeypatch.setattr(cli.serve, f"_{command}", lambda *_: 0)
    assert cli.run(SERVER, [command]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "MAX_REQUEST_PER_MINUTE is no setting. Did you mean MAX_REQUESTS_PER_MINUTE?" in line
    assert "warning" in line.lower()


@pytest.mark.parametrize("command", cli.SCRIPTS)
def test_an_installed_wheel_says_that_scripts_work_in_the_checkout(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Service, "project", None)
    assert cli.run(SERVER, [command, "--help"]) == 1
    sentence = "works in the project's checkout. An installed wheel holds no scripts."
    assert capsys.readouterr().err == f"{command}: {sentence}\n"


@pytest.mark.parametrize("command", cli.SCRIPTS)
def test_every_script_of_a_command_is_in_the_project(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(SERVER, [command, "--help"]) == 0
    assert f"usage: {SERVER.name} {command} " in capfd.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(SERVER, ["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


def test_stdio_needs_no_key_and_no_network_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_KEY")
    monkeypatch.setenv("HOST", "0.0.0.0")
    served: list[Any] = []
    monkeypatch.setattr(cli.serve, "serve_stdio", lambda server, _: served.append(server))
    assert cli.run(SERVER, ["stdio"]) == 0
    assert len(served) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_healthcheck_finds_a_living_server_wherever_it_listens(host: str) -> None:
    with running_server(host=host, public_url="https://mcp.example.com") as server:
        assert cli.run(SERVER, ["healthcheck", "--port", str(server.port)]) == 0
        os.environ["PUBLIC_URL"] = "https://mcp.example.com"
        try:
            assert cli.run(SERVER, ["healthcheck", "--host", host, "--port", str(server.port)]) == 0
        finally:
            del os.environ["PUBLIC_URL"]


def test_a_server_that_listens_on_ipv6_serves_ipv4_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio by itself would open `::` for IPv6 only."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6: run it where ::1 exists")
    monkeypatch.setenv("PUBLIC_URL", "https://mcp.example.com")
    with running_server(host="::", public_url="https://mcp.example.com") as server:
        assert cli.run(SERVER, ["healthcheck", "--host", "::", "--port", str(server.port)]) == 0
        assert server.get("/livez").status_code == 200, "through 127.0.0.1"


def test_healthcheck_says_that_no_server_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with running_server() as server:
        port = server.port
    assert cli.run(SERVER, ["healthcheck", "--port", str(port)]) == 1
    assert "unhealthy" in capsys.readouterr().err


def test_healthcheck_says_what_a_server_answers_that_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:  # which has no /livez
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert cli.run(SERVER, ["healthcheck", "--port", str(server.server_port)]) == 1
        server.shutdown()
    assert re.search("unhealthy: .*404", capsys.readouterr().err)


def test_tools_are_listed_locked_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("API_KEY")
    assert cli.run(SERVER, ["tools", "check"]) == 1
    assert "tools.lock.json is missing" in capsys.readouterr().err
    assert cli.run(SERVER, ["tools", "lock"]) == 0
    assert (tmp_path / "tools.lock.json").exists()
    assert cli.run(SERVER, ["tools", "check"]) == 0
    assert cli.run(SERVER, ["tools", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("TOOL ")


def test_in_production_the_server_does_not_start_without_the_lock(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setattr(Service, "project", None)  # over stdio the lock is the project's, wherever the process starts
    for command in ("serve", "stdio"):
        assert cli.run(SERVER, [command]) == EXIT_CONFIG
        assert "tools.lock.json is missing: review the tools" in capsys.readouterr().err


def test_the_module_is_the_command() -> None:
    assert __main__.run is cli.run
    assert __main__.SERVER is SERVER
