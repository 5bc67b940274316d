"""Several callers with scopes of their own, and every way in which they may connect, for tests of who may do what."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from mcp_chassis.auth.keys.store import KeySource
from mcp_chassis.auth.principal import Principal
from mcp_chassis.auth.verifier import InvalidCredential, Verifier
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.settings import Settings

from .running import _TLS, RunningServer, running_server


async def eventually(condition: Callable[[], bool], *, seconds: float = 3) -> None:
    """Wait until something is true, or fail."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  (it becomes true in the thread of the server)
            await anyio.sleep(0.01)


MODES = ["auto", "legacy"]
MODERN = "2026-07-28"
_META = "io.modelcontextprotocol/"
_SERVE = """
import importlib, sys
from mcp_chassis.events.logging import configure_logging
from mcp_chassis.mcp.stdio import serve_stdio
from mcp_chassis.parts import Parts
from mcp_chassis.settings import load_settings
configure_logging("WARNING", log_format="json")
parts = Parts(settings=load_settings(_env_file=None, enable_auth=False), name="test", version="", transport="stdio")
serve_stdio(getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(), parts)
"""


class Callers(Verifier):
    """Knows callers by a token that is their name.

    Args:
        scopes: of each caller, by name.
    """

    def __init__(self, scopes: Mapping[str, Iterable[str]]) -> None:
        self._known = {name: Principal(f"key:{name}", "key", frozenset(held)) for name, held in scopes.items()}

    async def verify(self, token: str) -> Principal:
        """Return the caller of that name."""
        if token not in self._known:
            raise InvalidCredential("unknown")
        return self._known[token]


@contextmanager
def server_for(callers: Mapping[str, Iterable[str]], mcp: GuardedServer, **settings: Any) -> Iterator[RunningServer]:
    """Serve `mcp` to these callers; the first of them is who asks unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeySource, "verifiers", lambda *_: [Callers(callers)])
        with running_server(mcp, **settings) as running:
            yield replace(running, key=next(iter(callers)))


@asynccontextmanager
async def connected(
    server: RunningServer, *, name: str | None = None, mode: str = "auto", **options: Any
) -> AsyncIterator[Client]:
    """Connect the official client as the caller `name`, with any of its options."""
    headers = replace(server, key=name or server.key).credentials
    async with (
        httpx2.AsyncClient(headers=headers, verify=_TLS, trust_env=False, timeout=20) as http_client,
        Client(streamable_http_client(server.url + "/mcp", http_client=http_client), mode=mode, **options) as client,
    ):
        yield client


@asynccontextmanager
async def on_stdio(module: str, function: str, *, mode: str = "auto", **options: Any) -> AsyncIterator[Client]:
    """Connect to a process that serves, on its standard streams, the server that a function of a test module makes."""
    root = Path(__file__).parents[2]
    names = {name.upper() for name in Settings.model_fields}
    variables = {name: value for name, value in os.environ.items() if name not in names}
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-c", _SERVE, module, function],
        env=variables | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path]), "PYTHONUTF8": "1"},
    )
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:  # noqa: ASYNC230
        async with Client(stdio_client(parameters, errlog=nowhere), mode=mode, **options) as client:
            yield client


def message(method: str, params: dict[str, Any], *, mode: str = "legacy") -> dict[str, Any]:
    """Return one JSON-RPC request, as a client of either era writes it."""
    if mode != "legacy":
        capabilities: dict[str, Any] = {"elicitation": dict[str, Any]()}
        meta = params.get("_meta", {}) | {
            f"{_META}protocolVersion": MODERN,
            f"{_META}clientCapabilities": capabilities,
            f"{_META}clientInfo": {"name": "attacker", "version": "1"},
        }
        params = params | {"_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def headers(server: RunningServer, method: str, named: str, *, mode: str = "legacy") -> dict[str, str]:
    """Return the headers that belong to a message, which claims to be about `named`."""
    common = server.credentials | {"Accept": "application/json, text/event-stream"}
    if mode == "legacy":
        return common
    return common | {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Mcp-Name": named}
