"""What the server's memory does under many calls, many client addresses and many idle streams.

    python benchmarks/memory.py PROJECT [--calls 200000] [--addresses 1000000] [--streams 1000]

PROJECT is a generated project; run it with an interpreter that has its dependencies. Linux, for /proc. Calls and
streams are those of a real server. One machine has no million addresses: they are named by a trusted proxy's
`X-Forwarded-For`, and the application is called without a socket. 0 leaves a part out. Exit code 1 if a bound is not
kept.
"""

import argparse
import contextlib
import os
import resource
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compare import NEWER, OLDER, Server, call, load, post, resident_bytes, start

# The most that the server may grow by.
FLAT, ADDRESSES, STREAM = 5e6, 25e6, 80e3  # bytes: of many calls, of many addresses, of one stream

# Calls the application once for each address, without a credential, and prints the memory before and after.
STRANGERS = """
import asyncio, os, sys
from pathlib import Path
number = int(sys.argv[1])
sys.stderr = open(os.devnull, "w")
from mcp_chassis import Service
from mcp_chassis.app import create_app
from mcp_chassis.events.logging import configure_logging
from mcp_chassis.settings import load_settings
settings = load_settings(_env_file=None, trusted_proxies="127.0.0.1", log_format="json")
configure_logging("INFO", log_format="json")
app = create_app(settings, Service(module="memory"))
seen = {}

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}

async def send(message):
    if message["type"] == "http.response.start":
        seen[message["status"]] = seen.get(message["status"], 0) + 1

async def ask(client):
    headers = [(b"host", b"127.0.0.1:8080"), (b"x-forwarded-for", client.encode()), (b"authorization", b"Bearer no")]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "raw_path": b"/mcp", "query_string": b"",
             "root_path": "", "scheme": "http", "http_version": "1.1", "headers": headers, "state": {},
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080), "asgi": {"version": "3.0"}}
    await app(scope, receive, send)

async def main():
    for turn in range(200):
        await ask("192.0.2.1")
    before = resident()
    for turn in range(number):
        await ask(f"2001:db8:{turn >> 16:x}:{turn & 65535:x}::1" if turn % 2 else
                  f"{11 + (turn >> 24)}.{turn >> 16 & 255}.{turn >> 8 & 255}.{turn & 255}")
    print(resident() - before, seen)

asyncio.run(main())
"""


def main() -> int:
    """Measure, print a table, and say whether every bound was kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--addresses", type=int, default=1_000_000)
    parser.add_argument("--streams", type=int, default=1000)
    options = parser.parse_args()
    project = options.project.resolve()
    print("| What | Growth | Bound | |\n| --- | --- | --- | --- |")
    kept = [
        *(calls(project, options.calls) if options.calls else ()),
        *(addresses(project, options.addresses) if options.addresses else ()),
        *(streams(project, options.streams) if options.streams else ()),
    ]
    return 0 if all(kept) else 1


def row(what: str, grown: float, bound: float) -> bool:
    """Print one line, and return whether it is within its bound."""
    print(
        f"| {what} | {grown / 1e6:.2f} MB | {bound / 1e6:.2f} MB | {'kept' if grown <= bound else 'MISSED'} |",
        flush=True,
    )
    return grown <= bound


def calls(project: Path, number: int) -> list[bool]:
    """Compare the memory after a first tenth of the calls with that after all, in both protocol eras."""
    with start("ours", project, None) as server:
        for version in (NEWER, OLDER):
            load(server, call(server, version), clients=16, requests=number // 20)
        before = resident_bytes(server.pid)
        for version in (NEWER, OLDER):
            load(server, call(server, version), clients=16, requests=number // 2)
        return [row(f"{number:,} calls", resident_bytes(server.pid) - before, FLAT)]


def addresses(project: Path, number: int) -> list[bool]:
    """Refuse one request from each of many addresses."""
    environment = os.environ | {"API_KEY": secrets.token_urlsafe(32), "PYTHONPATH": str(project / "src")}
    command = [sys.executable, "-c", STRANGERS, str(number)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    grown, _, statuses = done.stdout.partition(" ")
    return [row(f"{number:,} addresses, answered with {statuses.strip()}", int(grown), ADDRESSES)]


def streams(project: Path, number: int) -> list[bool]:
    """Open streams that stay idle, look, close them, and look again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * number + 100)), hard))
    room = str(number + 10)
    names = ("MAX_STREAMS", "MAX_STREAMS_PER_CALLER", "MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS")
    with start("ours", project, None, **dict.fromkeys(names, room)) as server:
        with_open_streams(server, 50)  # warms up
        before = resident_bytes(server.pid)
        most = with_open_streams(server, number)
        time.sleep(2)
        # What is given back can be used again: as many once more take nothing more.
        again = with_open_streams(server, number)
        return [
            row(f"{number:,} idle streams", most - before, number * STREAM),
            row(f"{number:,} more after those", again - most, FLAT),
        ]


def with_open_streams(server: Server, number: int) -> int:
    """Return the server's memory while so many streams are open."""
    with contextlib.ExitStack() as open_streams:
        for _ in range(number):
            stream = open_streams.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            stream.sendall(listen(server))
            head = stream.recv(65536)
            assert head.startswith(b"HTTP/1.1 200 "), head
        return resident_bytes(server.pid)


def listen(server: Server) -> bytes:
    """Return the request that opens a stream."""
    meta: dict[str, Any] = {"io.modelcontextprotocol/protocolVersion": NEWER}
    meta |= {"io.modelcontextprotocol/clientCapabilities": {}}
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    return post(server, message, {"MCP-Protocol-Version": NEWER, "Mcp-Method": "subscriptions/listen"})


if __name__ == "__main__":
    sys.exit(main())
