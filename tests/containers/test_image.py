"""The generated image, built and run: what a container of it may do, how it starts and ends, and what is in it."""

from __future__ import annotations

import http.client
import json
import os
import re
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from engine import Engine
from proxies import wait_until

from .conftest import WITH_ROOT, secrets_of

pytestmark = [pytest.mark.slow, WITH_ROOT]

NAME = "mcp.example.com"
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
INSTALLERS = {"pip", "pip3", "ensurepip", "uv"}
WALLS = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp", "--volume", "/app/data", "--volume", "/app/notes"),  # noqa: S108
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "512m"),
)


@dataclass(frozen=True)
class Container:
    """A container of the image."""

    podman: Engine
    id: str
    key: str = field(repr=False)

    @property
    def address(self) -> str:
        networks = self.podman.inspect(self.id)["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, 8080, timeout=20)
        headers = {"Host": NAME, "Authorization": f"Bearer {self.key}", **JSON}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, tool: str) -> tuple[int, bytes]:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
        return self.request("POST", "/mcp", json.dumps(message).encode())

    def is_ready(self) -> bool:
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            assert self.podman.inspect(self.id)["State"]["Running"], self.logs()
            return False

    def logs(self) -> str:
        done = self.podman.run("logs", self.id)
        return done.stdout + done.stderr

    def python(self, text: str) -> Any:
        """Run Python inside, and return what it prints, which is JSON."""
        return json.loads(self.podman("exec", self.id, "python", "-c", text))


@contextmanager
def running(
    podman: Engine, image: str, secrets: Path, key: str, *options: str, ready: bool = True
) -> Iterator[Container]:
    """Run a container as compose.yaml does, and remove it at the end."""
    secrets.mkdir(exist_ok=True)
    secrets.chmod(0o755)
    (secrets / "api_key").write_text(key, encoding="utf-8")
    (secrets / "api_key").chmod(0o444)
    given = ("--volume", f"{secrets}:/run/secrets:ro", "--env", f"PUBLIC_URL=https://{NAME}")
    container = Container(podman, podman("run", "--detach", *WALLS, *given, *options, image), key)
    try:
        if ready:
            wait_until(container.is_ready)
        yield container
    finally:
        podman("rm", "--force", "--time", "0", "--volumes", container.id)


@pytest.fixture(scope="module")
def container(podman: Engine, image: str, key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(podman, image, tmp_path_factory.mktemp("secrets"), key) as found:
        yield found


def test_the_server_is_10001_on_a_read_only_root_without_capabilities(container: Container) -> None:
    found = container.python(
        "import json, os, re\n"
        "status = dict(re.findall(r'(\\w+):\\s+(.*)', open('/proc/1/status').read()))\n"
        "def writes(place):\n"
        "    try:\n        open(place + '/x', 'w').close()\n        return True\n"
        "    except OSError:\n        return False\n"
        "places = [place for place in ('/', '/app', '/app/.venv', '/etc', '/var/tmp', '/tmp') if writes(place)]\n"
        "print(json.dumps([status, places, os.listdir('/app')]))"
    )
    status, writable, files = found
    assert (status["Uid"].split(), status["Gid"].split()) == (["10001"] * 4, ["10001"] * 4)
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert writable == ["/tmp"]  # noqa: S108
    assert sorted(files) == [".venv", "data", "notes", "sbom.cdx.json", "tools.lock.json"]


def test_the_server_starts_as_no_root_whatever_the_options(image: str, podman: Engine) -> None:
    """Without `--user`: the image says it by itself, by number, so that `runAsNonRoot` can check it."""
    assert podman.inspect(image)["Config"]["User"] == "10001:10001"


def test_health_check_turns_healthy_and_unhealthy(container: Container) -> None:
    """Podman runs the check by a timer of systemd; without systemd the tests run it, as often as the image says."""
    podman = container.podman

    def status() -> str:
        podman.run("healthcheck", "run", container.id)
        return str(podman.inspect(container.id)["State"]["Health"]["Status"])

    assert status() == "healthy"
    podman("kill", "--signal", "STOP", container.id)
    try:
        wait_until(lambda: status() == "unhealthy", seconds=60)
    finally:
        podman("kill", "--signal", "CONT", container.id)
    wait_until(lambda: status() == "healthy")


def is_program(path: Path) -> bool:
    return path.name in INSTALLERS or (path.is_file() and os.access(path, os.X_OK))


def test_the_image_has_no_installer_and_no_shell(podman: Engine, image: str) -> None:
    place = Path(podman("image", "mount", image))
    try:
        programs = {path.name for path in place.rglob("*") if is_program(path)}
    finally:
        podman("image", "unmount", image)
    assert "secure-mcp-server" in programs
    assert programs & {*INSTALLERS, "sh", "bash", "dash", "busybox", "curl", "wget", "gcc"} == set()
    for words in (("/bin/sh", "-c", "true"), ("python", "-m", "pip", "--version")):
        done = podman.run("run", "--rm", "--entrypoint", words[0], image, *words[1:])
        assert done.returncode != 0
        assert re.search(r"no such file|No module named pip", done.stderr), done.stderr


def test_no_secret_is_in_a_layer_or_in_inspect(project: Path, image: str, container: Container, tmp_path: Path) -> None:
    """The project has a key in `.env` and three secrets in `secrets/`, beside what is copied."""
    podman, secrets = container.podman, secrets_of(project)
    archive = tmp_path / "image.tar"
    podman("save", "--format", "docker-archive", "--output", archive, image)
    seen = 0
    with tarfile.open(archive) as whole:
        for member in whole:
            if (file := whole.extractfile(member)) is not None:
                content = file.read()
                seen += len(content)
                assert not [name for name, value in secrets.items() if value.encode() in content], member.name
    assert seen > 50_000_000
    for shown in (podman.inspect(image), podman.inspect(container.id), podman("history", "--no-trunc", image)):
        assert not [name for name, value in secrets.items() if value in json.dumps(shown)]
    assert secrets["secrets/server/api_key"] == container.key
    assert not [name for name, value in secrets.items() if value in container.logs()]


def test_the_size_of_the_image_is_bounded(podman: Engine, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {name: int(podman.inspect(name)["Size"]) // 1_000_000 for name in (image, "python:3.13.15-slim-trixie")}
    whole, base = sizes.values()
    with capsys.disabled():
        print(f"\nimage: {whole} MB, of which {base} MB are the base (of the same Debian as python:slim)")  # noqa: T201
    assert whole - base < 80


def test_the_server_starts_only_with_the_tools_of_the_committed_lock(
    project: Path, image: str, container: Container, tmp_path: Path
) -> None:
    podman, key = container.podman, container.key
    assert container.call("wait")[0] == 200
    other = tmp_path / "tools.lock.json"
    committed = (project / "tools.lock.json").read_text(encoding="utf-8")
    other.write_text(committed.replace("Wait for three seconds.", "Wait for four seconds."), encoding="utf-8")
    assert other.read_text(encoding="utf-8") != committed
    options = ("--volume", f"{other}:/app/tools.lock.json:ro")
    with running(podman, image, tmp_path / "secrets", key, *options, ready=False) as changed:
        assert podman("wait", changed.id) == "78"
        assert "wait" in changed.logs()


def test_the_image_names_every_package_in_it(container: Container) -> None:
    installed, bom = container.python(
        "import json, importlib.metadata as metadata\n"
        "found = [[one.name, one.version] for one in metadata.distributions() if '.venv' in str(one.locate_file(''))]\n"
        "print(json.dumps([found, json.load(open('/app/sbom.cdx.json'))]))"
    )
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5")
    named = {(one["name"], one["version"]): one.get("purl", "") for one in bom["components"]}
    own = bom["metadata"]["component"]
    assert (own["name"], own["version"]) == ("secure-mcp-server", "0.1.0")
    assert len(installed) > 20
    for name, version in installed:
        normal = re.sub(r"[-_.]+", "-", name).lower()
        if normal != own["name"]:
            assert named[normal, version] == f"pkg:pypi/{normal}@{version}"


def test_sigterm_ends_with_0_after_the_call_that_runs(container: Container) -> None:
    """The last test of this file: it ends the container."""
    answers: list[tuple[int, bytes]] = []
    caller = threading.Thread(target=lambda: answers.append(container.call("wait")))
    before = container.logs().count("waiting")
    caller.start()
    wait_until(lambda: container.logs().count("waiting") > before)
    container.podman("kill", "--signal", "TERM", container.id)
    assert container.podman("wait", container.id) == "0", container.logs()
    caller.join()
    ((status, body),) = answers
    assert (status, b"waited to the end" in body) == (200, True)
