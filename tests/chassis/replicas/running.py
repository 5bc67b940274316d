"""Starts the whole: Redis, two servers as processes of their own, nginx as docs/replicas.md configures it."""

import re
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_chassis.settings import load_settings

from ..attacks.wire import send
from ..support.certificates import Authority
from ..support.project import PROJECT
from ..support.redis import Redis, program, running_redis
from ..support.running import RunningServer, ServerProcess, environment, free_port, new_secret, wait_until

TEST_TOOLS = """
import sys
from mcp_chassis.cli import run
from chassis.replicas.tools import SERVER
sys.exit(run(SERVER, sys.argv[1:]))
"""


@dataclass
class Site:
    """A deployment: clients know its URL and trust its certificate."""

    port: int
    key: str
    trust: ssl.SSLContext
    redis: Redis
    replicas: list[ServerProcess]

    @property
    def url(self) -> str:
        """The public URL."""
        return f"https://localhost:{self.port}"

    @property
    def state_of_replicas(self) -> list[str]:
        """What each replica says of itself."""
        return [send(replica.running, "GET", "/readyz").text.strip() for replica in self.replicas]

    def http(self, key: str | None = None) -> httpx2.Client:
        """Return a plain client."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx2.Client(base_url=self.url, headers=headers, verify=self.trust, trust_env=False, timeout=30)

    @asynccontextmanager
    async def client(
        self, *, key: str | None = None, mode: str = "auto", replica: int | None = None, **options: Any
    ) -> AsyncIterator[Client]:
        """Connect the official client, through nginx or to one replica."""
        url = self.url if replica is None else self.replicas[replica].running.url
        headers = {"Authorization": f"Bearer {key or self.key}"}
        async with (
            httpx2.AsyncClient(headers=headers, verify=self.trust, trust_env=False, timeout=30) as http_client,
            Client(streamable_http_client(f"{url}/mcp", http_client=http_client), mode=mode, **options) as client,
        ):
            yield client


def call(tool: str, **arguments: str) -> dict[str, Any]:
    """Return the message of one tool call, as a client of the older revisions sends it."""
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


@contextmanager
def running_site(directory: Path, **settings: str) -> Iterator[Site]:
    """Start everything, and end it.

    Args:
        directory: for all files.
        settings: of both replicas.
    """
    nginx = program("nginx")
    authority, ports, port, key = Authority(directory), (free_port(), free_port()), free_port(), new_secret()
    authority.server_context("localhost")
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis())
        defaults = {
            "log_format": "json",
            "api_key": key,
            "state_secret": new_secret(),
            "redis_url": redis.url,
            "replicas": "2",
            "public_url": f"https://localhost:{port}",
            "trusted_proxies": "127.0.0.1",
            "max_requests_per_minute": "1000000",
            "keys_file": "keys.json",
        }
        replicas = [
            stack.enter_context(_replica(directory / f"replica-{number}", place, defaults | settings))
            for number, place in enumerate(ports)
        ]
        for replica in replicas:
            wait_until(lambda replica=replica: _is_ready(replica), seconds=60)
        stack.enter_context(_nginx(nginx, directory, port, ports))
        yield Site(port, key, authority.client_context(), redis, replicas)


@contextmanager
def _replica(directory: Path, port: int, settings: dict[str, str]) -> Iterator[ServerProcess]:
    directory.mkdir()
    variables = environment(**settings, port=str(port))
    with (directory / "stdout").open("wb") as out, (directory / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", TEST_TOOLS, "serve"],
            cwd=directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    try:
        known = load_settings(_env_file=None, port=port, api_key=settings["api_key"])
        yield ServerProcess(process, RunningServer(known, settings["api_key"]), directory)
    finally:
        process.kill()
        process.wait()


def _is_ready(replica: ServerProcess) -> bool:
    assert replica.process.poll() is None, replica.written()
    try:
        return send(replica.running, "GET", "/readyz").text == "ready\n"
    except OSError:
        return False


@contextmanager
def _nginx(command: str, directory: Path, port: int, ports: tuple[int, int]) -> Iterator[None]:
    """Start nginx with the configuration of the documentation; only addresses and files are this test's."""
    document = (PROJECT / "docs" / "replicas.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"```nginx\n(.*?)```", document, re.DOTALL)
    for pattern, ours in {
        r"10\.0\.0\.11:\d+": f"127.0.0.1:{ports[0]}",
        r"10\.0\.0\.12:\d+": f"127.0.0.1:{ports[1]}",
        r"listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        r"/etc/nginx/mcp\.example\.com\.(pem|key)": str(directory / "localhost.pem"),
        r"mcp\.example\.com": "localhost",
    }.items():
        written, times = re.subn(pattern, ours, written)
        assert times, f"docs/replicas.md: {pattern} is not there"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {directory / kind};\n" for kind in kinds)
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {directory / 'nginx.pid'}; error_log {directory / 'nginx.log'};\n"
        "events {}\nhttp {\naccess_log off;\n" + paths + written + "}\n"
    )
    process = subprocess.Popen([command, "-p", str(directory), "-e", "stderr", "-c", str(configuration)],
                               stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        site = f"https://localhost:{port}/livez"
        wait_until(lambda: process.poll() is not None or _answers(site), seconds=20)
        assert process.poll() is None, (directory / "nginx.log").read_text()
        yield
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        httpx2.get(url, verify=False, trust_env=False)
    except httpx2.TransportError:
        return False
    return True


@dataclass(frozen=True)
class Attempt:
    """One call of the load: what was asked, when, and what came of it. Status 0 is no answer at all."""

    number: str
    began: float
    seconds: float
    status: int


@dataclass
class Load:
    """Calls of a tool, one after the other in each of several threads, until `stop` is set."""

    site: Site
    threads: int = 4
    attempts: list[Attempt] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Keep calling while the block runs."""
        stop = threading.Event()
        callers = [threading.Thread(target=self._call, args=(name, stop)) for name in range(self.threads)]
        for caller in callers:
            caller.start()
        try:
            yield self
        finally:
            stop.set()
            for caller in callers:
                caller.join()

    def more(self, answers: int) -> None:
        """Wait for so many further answers of 200."""
        before = self.statuses[200]
        wait_until(lambda: self.statuses[200] >= before + answers, seconds=60)

    @property
    def statuses(self) -> Counter[int]:
        """How often which status came."""
        return Counter(attempt.status for attempt in list(self.attempts))

    def _call(self, name: int, stop: threading.Event) -> None:
        count = 0
        with self.site.http() as client:
            while not stop.is_set():
                count += 1
                number, began = f"{name}-{count}", time.monotonic()
                try:
                    status = client.post("/mcp", json=call("record", number=number)).status_code
                except httpx2.TransportError:
                    status = 0
                self.attempts.append(Attempt(number, began, time.monotonic() - began, status))
