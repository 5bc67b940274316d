"""A real server on a real socket, for tests: uvicorn with every layer, in a thread of this process."""

import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp.types import CallToolResult, TextContent

from ..app import create_app
from ..http.server import make_server
from ..service import Service
from ..settings import Settings, load_settings

_MARKED = re.compile(r".*\n<untrusted-([0-9a-f]{16})>\n(?P<text>.*)\n</untrusted-\1>", re.DOTALL)
# Loaded once: otherwise every client loads the certificate authorities, for plain HTTP.
_TLS = ssl.create_default_context()


@dataclass(frozen=True)
class RunningServer:
    """A running server, and requests to it."""

    settings: Settings
    key: str

    @property
    def port(self) -> int:
        """The port it listens on, on 127.0.0.1."""
        return self.settings.port

    @property
    def url(self) -> str:
        """Its origin, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        """The header of a caller with the key."""
        return {"Authorization": f"Bearer {self.key}"}

    def get(self, path: str, **options: Any) -> httpx2.Response:
        """Send one GET on a connection of its own."""
        return httpx2.get(self.url + path, verify=_TLS, trust_env=False, **{"timeout": 30, **options})

    def post(self, message: Any, *, path: str = "/mcp", **options: Any) -> httpx2.Response:
        """Send one JSON-RPC message with the key, unless `headers` says otherwise."""
        options.setdefault("headers", self.credentials)
        return httpx2.post(self.url + path, json=message, verify=_TLS, trust_env=False, **{"timeout": 30, **options})

    def call(self, tool: str, arguments: dict[str, Any], **options: Any) -> httpx2.Response:
        """Call a tool with one plain POST, as a client of the older revisions does."""
        params = {"name": tool, "arguments": arguments}
        return self.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, **options)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the security events, newest first."""
        query = {"limit": "1000"} | ({"event": kind} if kind else {})
        return list(self.get("/security/events", params=query, headers=self.credentials).json()["events"])

    def raw(self, data: bytes, *, timeout: float = 5) -> bytes:
        """Send bytes unchanged and return the answer until the server closes or sends nothing for `timeout` seconds."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            received = b""
            with suppress(TimeoutError):
                while chunk := connection.recv(65536):
                    received += chunk
            return received

    @asynccontextmanager
    async def client(self, mode: str = "auto") -> AsyncIterator[Client]:
        """Connect the official client, in the newest protocol mode or as a client of the older revisions."""
        async with (
            httpx2.AsyncClient(headers=self.credentials, verify=_TLS, trust_env=False) as http_client,
            Client(streamable_http_client(self.url + "/mcp", http_client=http_client), mode=mode) as client,
        ):
            yield client


def text(result: CallToolResult) -> str:
    """Return the text of a tool's result, without the marks of an untrusted one."""
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    return "".join(_MARKED.sub(lambda marked: marked["text"], one) for one in texts)


@contextmanager
def running_server(served: Service | MCPServer, **settings: Any) -> Iterator[RunningServer]:
    """Start a server with `settings` on a free port and stop it at the end.

    Args:
        served: what it serves.
        settings: override the test defaults: no `.env`, the API key on, no limit per caller in the way.
    """
    key = f"mcp_{new_secret()}"
    defaults: dict[str, Any] = {
        "_env_file": None,
        "events_file": None,
        "api_key": key,
        "port": free_port(),
        "max_requests_per_minute": 1_000_000,
        "max_connections_per_address": 100_000,
        "shutdown_timeout": 2,
    }
    kind = served.settings if isinstance(served, Service) else Settings
    loaded = load_settings(kind, **(defaults | settings))
    server = make_server(create_app(loaded, served), loaded)
    failures = list[BaseException]()

    def run() -> None:
        try:
            server.run()
        except BaseException as error:  # raised below, in the thread of the test
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        for failure in failures:
            raise failure
        assert server.started, "the server did not start"
        yield RunningServer(loaded, key)
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"


def new_secret() -> str:
    """Return a new random secret."""
    return secrets.token_urlsafe(32)


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Any, *, seconds: float = 30) -> None:
    """Wait until `condition()` is true, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not true after {seconds} s")
        time.sleep(0.01)
