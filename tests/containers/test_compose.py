"""compose.yaml, brought up: two servers, Caddy and Valkey, called by the official client over TLS."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import mcp
import pytest
from engine import Engine
from mcp.client.streamable_http import streamable_http_client
from proxies import free_port, program, wait_until

from .conftest import WITH_ROOT, secrets_of

pytestmark = [pytest.mark.slow, pytest.mark.anyio, WITH_ROOT]

SERVERS = ("server-1", "server-2")
PER_MINUTE = 60


@dataclass(frozen=True)
class Stack:
    """The containers of a compose.yaml that is up."""

    podman: Engine
    directory: Path
    files: tuple[str, ...]
    port: int
    key: str = field(repr=False)

    def compose(self, *words: str) -> None:
        """Run one command of podman-compose."""
        files = [word for name in self.files for word in ("--file", name)]
        command = [sys.executable, program("podman-compose"), "--no-ansi", *files, *words]
        environment = {**self.podman.environment, "MAX_REQUESTS_PER_MINUTE": str(PER_MINUTE)}
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def name(self, service: str) -> str:
        return f"{self.directory.name}_{service}_1"

    def services(self) -> list[str]:
        found = self.podman("ps", "--all", "--format", "{{.Names}}").split()
        prefix = f"{self.directory.name}_"
        return sorted(name.removeprefix(prefix)[:-2] for name in found if name.startswith(prefix))

    def addresses(self, service: str) -> dict[str, str]:
        """The address of a service in each of its networks."""
        networks = self.podman.inspect(self.name(service))["NetworkSettings"]["Networks"]
        return {name.removeprefix(f"{self.directory.name}_"): one["IPAddress"] for name, one in networks.items()}

    def access(self, service: str) -> list[dict[str, Any]]:
        """The lines about requests in the log of a server. An answered call has that of the call, without a path."""
        lines = [line for line in self.logs(service).splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line.get("logger") in {"access", "audit"}]

    def logs(self, service: str) -> str:
        done = self.podman.run("logs", self.name(service))
        return done.stdout + done.stderr

    def connects(self, service: str, address: str, port: int) -> bool:
        """Whether a container gets a connection."""
        text = f"import socket; socket.create_connection(({address!r}, {port}), 3)"
        return self.podman.run("exec", self.name(service), "python3", "-c", text).returncode == 0

    def trust(self) -> ssl.SSLContext:
        """What verifies the certificate that Caddy made for localhost."""
        volume = json.loads(self.podman("volume", "inspect", f"{self.directory.name}_certificates"))[0]["Mountpoint"]
        return ssl.create_default_context(cafile=f"{volume}/caddy/pki/authorities/local/root.crt")

    def client(self) -> httpx2.AsyncClient:
        """A client that takes Caddy's port on this machine for port 443 of localhost."""

        async def as_localhost(request: httpx2.Request) -> None:
            request.headers["Host"] = "localhost"
            request.extensions["sni_hostname"] = "localhost"

        return httpx2.AsyncClient(
            base_url=f"https://127.0.0.1:{self.port}", verify=self.trust(), event_hooks={"request": [as_localhost]}
        )

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool with the official client."""
        async with self.client() as http:
            http.headers["Authorization"] = f"Bearer {self.key}"
            transport = streamable_http_client(f"https://127.0.0.1:{self.port}/mcp", http_client=http)
            async with mcp.Client(transport) as client:
                result = await client.call_tool(tool, arguments)
        assert not result.is_error, result
        return str(result.content)

    def is_up(self) -> bool:
        """Whether Caddy has a certificate, both servers are ready, and Caddy finds them so for three seconds."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 3) as raw:
                self.trust().wrap_socket(raw, server_hostname="localhost").close()
        except OSError:
            return False
        if not all(self.health(service) for service in SERVERS):
            return False
        with httpx2.Client(base_url=f"https://127.0.0.1:{self.port}", verify=self.trust(), timeout=10) as client:
            for _ in range(10):  # longer than Caddy's interval of checks: a busy machine may fail one
                sni = {"sni_hostname": "localhost"}
                if client.get("/livez", headers={"Host": "localhost"}, extensions=sni).status_code != 200:
                    return False
                time.sleep(0.3)
        return True

    def health(self, service: str) -> bool:
        return self.podman.run("healthcheck", "run", self.name(service)).returncode == 0


def copied(project: Path, directory: Path, port: int) -> Path:
    """Copy a project; only the ports of this machine are others than 80 and 443."""
    made = Path(shutil.copytree(project, directory / "deployed"))
    text = (made / "compose.yaml").read_text(encoding="utf-8")
    for old, new in (("80:80", f"127.0.0.1:{free_port()}:80"), ("443:443", f"127.0.0.1:{port}:443")):
        assert text.count(f'"{old}"') == 1
        text = text.replace(f'"{old}"', f'"{new}"')
    (made / "compose.yaml").write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def stack(
    podman: Engine, project: Path, image: str, key: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    assert image
    port = free_port()
    made = Stack(podman, copied(project, tmp_path_factory.mktemp("compose"), port), ("compose.yaml",), port, key)
    try:
        made.compose("up", "--detach", "--no-build")
        wait_until(made.is_up, seconds=60)
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "1")


def test_what_compose_yaml_names_is_running(stack: Stack) -> None:
    assert stack.services() == ["caddy", "server-1", "server-2", "valkey"]
    assert stack.addresses("caddy") == {"front": "172.31.250.2"}


async def test_official_client_calls_through_tls(stack: Stack) -> None:
    for _ in range(4):
        assert "Hello, World!" in await stack.call("hello_world", name="World")
    assert all(any(line.get("path", "/mcp") == "/mcp" for line in stack.access(service)) for service in SERVERS)


async def test_client_address_is_the_callers_and_not_that_of_caddy(stack: Stack) -> None:
    async with stack.client() as http:
        assert (await http.get("/health", headers={"X-Forwarded-For": "203.0.113.9"})).status_code == 200
    found = {line["client"] for service in SERVERS for line in stack.access(service) if line.get("path") == "/health"}
    assert found
    assert not found & {"172.31.250.2", "203.0.113.9"}


def test_only_caddy_is_reachable_from_outside(stack: Stack) -> None:
    published = {}
    for service in stack.services():
        ports = stack.podman.inspect(stack.name(service))["HostConfig"]["PortBindings"] or {}
        published[service] = sorted(port for port, bound in ports.items() if bound)
    assert published == {"caddy": ["443/tcp", "80/tcp"], "server-1": [], "server-2": [], "valkey": []}


def test_the_internal_network_has_no_way_out(stack: Stack) -> None:
    """A listener of this machine: a server gets to it, Valkey and what else is in `data` does not."""
    (gateway,) = {address.rpartition(".")[0] + ".1" for address in [stack.addresses("server-1")["front"]]}
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        assert stack.connects("server-1", gateway, port)
        assert not stack.connects("valkey", gateway, port)
    assert set(stack.addresses("valkey")) == {"data"}
    assert not stack.connects("caddy", stack.addresses("valkey")["data"], 6379)
    assert stack.connects("server-1", stack.addresses("valkey")["data"], 6379)


def test_no_container_shows_a_secret(stack: Stack, project: Path) -> None:
    for service in stack.services():
        shown = json.dumps(stack.podman.inspect(stack.name(service)))
        assert not [name for name, value in secrets_of(project).items() if value in shown], service


async def served_of(stack: Stack, requests: int) -> int:
    """Send requests without a credential, which count by address; return how many were served."""
    async with stack.client() as http:
        statuses = [(await http.get("/health")).status_code for _ in range(requests)]
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


async def test_limit_is_shared_and_survives_valkey(stack: Stack) -> None:
    """Two servers that counted for themselves would serve twice as many."""
    before = {service: len(stack.access(service)) for service in SERVERS}
    served = await served_of(stack, 2 * PER_MINUTE)
    assert PER_MINUTE - 10 <= served <= PER_MINUTE + 15, "the limit, and what it refills in these seconds"
    wait_until(lambda: all(len(stack.access(service)) > before[service] for service in SERVERS))

    stack.podman("kill", stack.name("valkey"))
    assert "Hello" in await stack.call("hello_world", name="World")
    stack.podman.run("start", stack.name("valkey"))
    wait_until(lambda: stack.connects("server-1", "valkey", 6379))
    assert "Hello" in await stack.call("hello_world", name="World")
    assert re.search("(?i)redis", "".join(map(stack.logs, SERVERS))), "that it was gone is in the log"


async def test_killed_server_costs_no_call(stack: Stack) -> None:
    stack.podman("kill", stack.name("server-1"))
    try:
        for _ in range(6):
            assert "Hello" in await stack.call("hello_world", name="World")
    finally:
        stack.podman.run("start", stack.name("server-1"))
    wait_until(lambda: stack.health("server-1"), seconds=60)
