"""Whether the server gives back what it takes: minutes of honest and hostile traffic, and a look before and after.

    python benchmarks/soak.py PROJECT --minutes 3

PROJECT is a generated project whose package is installed in this environment, or whose `src` is on PYTHONPATH. The
first third of the time warms up; then memory, descriptors, threads, connections and tasks of the idle server are
compared with those after the rest. Exit code 1 if any has grown, or if an honest call has failed. Linux, for /proc.
"""

import argparse
import http.client
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from response_modes import VERSIONS, free_port, request, wait_for

# The server, which also writes its number of tasks to standard output when it is asked by a signal.
SERVE = """
import asyncio, signal
from {package}.__main__ import run, SERVER
signal.signal(signal.SIGUSR1, lambda *_: print(len(asyncio.all_tasks()), flush=True))
run(SERVER, ["serve"])
"""
SETTINGS = {
    "MAX_REQUESTS_PER_MINUTE": "1000000",
    "MAX_CONNECTIONS_PER_ADDRESS": "300",
    "TRUSTED_PROXIES": "127.0.0.2",
    "RECEIVE_TIMEOUT": "2",
    "SEND_TIMEOUT": "2",
    "KEEP_ALIVE_TIMEOUT": "2",
    "MAX_STREAM_AGE": "3",
    "LOG_FORMAT": "json",
}
ADDRESSES = [f"192.0.{number // 250}.{number % 250}" for number in range(3000)]
ROOM = {"megabytes": 8.0, "descriptors": 3.0, "threads": 3.0, "connections": 2.0, "tasks": 3.0}
Client = Callable[[], None]


class Traffic:
    """Clients of every kind, each in a thread, until `stop` is set."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key
        self.seen: Counter[str] = Counter()
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._addresses = itertools.cycle(ADDRESSES)

    def run(self, seconds: float) -> None:
        """Let all of them work for so long."""
        self._stop.clear()
        clients = [self.call] * 3 + [
            self.listen,
            self.guess,
            self.silent,
            self.half,
            self.garbage,
            self.unread,
            self.leave,
        ]
        threads = [threading.Thread(target=self._repeat, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        self._stop.wait(seconds)
        self._stop.set()
        for thread in threads:
            thread.join()

    def _repeat(self, client: Client) -> None:
        honest = client == self.call
        while not self._stop.wait(0.01 if honest else 0.1):
            try:
                client()
            except (OSError, http.client.HTTPException) as error:
                if honest:
                    self.failed.append(repr(error))
                self.seen[f"{client.__name__}: cut off"] += 1
            else:
                self.seen[client.__name__] += 1

    def call(self) -> None:
        """Call a tool as an honest client does, twenty times on a connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        for number in range(20):
            body, headers = request(self.key, VERSIONS[number % 2], progress=number % 5 == 0)
            connection.request("POST", "/mcp", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != http.HTTPStatus.OK or b"Hello, Ann" not in text:
                self.failed.append(f"{answer.status} {text[:200]!r}")
        connection.close()

    def listen(self) -> None:
        """Open streams; end some by leaving, some by a reset, some by waiting for their end."""
        _, headers = request(self.key, VERSIONS[0], progress=False)
        meta: dict[str, object] = {"io.modelcontextprotocol/protocolVersion": VERSIONS[0]}
        meta |= {"io.modelcontextprotocol/clientCapabilities": {}}
        params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params})
        headers["mcp-method"] = "subscriptions/listen"
        del headers["mcp-name"]
        streams = [self.connect() for _ in range(10)]
        for stream in streams:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            stream.sendall(self.head("POST /mcp", lines + f"content-length: {len(body)}\r\n") + body.encode())
            stream.recv(65536)
        for stream in streams[:3]:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.close()
        while streams[-1].recv(65536):
            pass
        for stream in streams:
            stream.close()

    def guess(self) -> None:
        """Send wrong keys, as a proxy with three thousand clients behind it."""
        with self.connect("127.0.0.2") as stream:
            lines = f"x-forwarded-for: {next(self._addresses)}\r\nauthorization: Bearer {secrets.token_hex(8)}\r\n"
            stream.sendall(self.head("GET /health", lines))
            stream.recv(65536)

    def silent(self) -> None:
        """Hold silent and half requests until they are cut."""
        streams = [self.connect() for _ in range(50)]
        for stream in streams[::2]:
            stream.sendall(b"GET /livez HTTP/1.1\r\nHost: ")
        for stream in streams:
            while stream.recv(65536):
                pass
            stream.close()

    def half(self) -> None:
        """Announce a body, send half of it and leave."""
        _, headers = request(self.key, VERSIONS[1], progress=False)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with self.connect() as stream:
            stream.sendall(self.head("POST /mcp", lines + "content-length: 100000\r\n") + b"[" * 50_000)

    def garbage(self) -> None:
        """Send what is not HTTP, not JSON, not allowed."""
        start = secrets.choice([b"\x16\x03\x01", b"GET /a HTTP/1.1\n\n", self.head("GET http://a/livez", "")])
        with self.connect() as stream:
            stream.sendall(start + secrets.token_bytes(100) + b"\r\n\r\n")
            stream.recv(65536)

    def unread(self) -> None:
        """Ask many times without reading, until cut."""
        with self.connect() as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            stream.settimeout(0.2)
            for _ in range(20):
                stream.sendall(self.head("GET /health", "") * 20)

    def leave(self) -> None:
        """Ask and leave before the answer."""
        body, headers = request(self.key, VERSIONS[0], progress=True)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with self.connect() as stream:
            stream.sendall(self.head("POST /mcp", lines + f"content-length: {len(body)}\r\n") + body.encode())

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(source, 0))

    def head(self, line: str, lines: str) -> bytes:
        """Return the head of a request."""
        return f"{line} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{lines}\r\n".encode()


def look(server: "subprocess.Popen[str]", port: int, key: str) -> dict[str, float]:
    """Return what the idle server holds."""
    server.send_signal(signal.SIGUSR1)
    assert server.stdout is not None
    tasks = int(server.stdout.readline())
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/health", headers={"authorization": f"Bearer {key}"})
    health = json.loads(connection.getresponse().read())
    connection.close()
    of_process = Path(f"/proc/{server.pid}")
    return {
        "megabytes": health["memory_bytes"] / 1e6,
        "descriptors": float(len(list((of_process / "fd").iterdir()))),
        "threads": float(len(list((of_process / "task").iterdir()))),
        "connections": float(health["open_connections"]),
        "tasks": float(tasks),
    }


def main() -> int:
    """Run the traffic, and print what the server held before and after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    options = parser.parse_args()
    (package,) = (path.parent.name for path in (options.project / "src").glob("*/server.py"))
    key, port = secrets.token_urlsafe(32), free_port()
    source = os.pathsep.join([str((options.project / "src").resolve()), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | SETTINGS | {"API_KEY": key, "PORT": str(port), "PYTHONPATH": source}
    command = [sys.executable, "-c", SERVE.format(package=package)]
    with subprocess.Popen(
        command, cwd=options.project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            wait_for(port)
            traffic, settle = Traffic(port, key), 12.0
            traffic.run(options.minutes * 20)
            time.sleep(settle)
            before = look(server, port, key)
            traffic.run(options.minutes * 40)
            time.sleep(settle)
            after = look(server, port, key)
        finally:
            server.terminate()
    print(", ".join(f"{name} {count}" for name, count in sorted(traffic.seen.items())))
    print(*traffic.failed[:5], sep="\n")
    grown = [name for name, most in ROOM.items() if after[name] > before[name] + most]
    for name in ROOM:
        print(f"{name:12} {before[name]:8.1f} -> {after[name]:8.1f}{'   GROWN' if name in grown else ''}")
    return 1 if grown or traffic.failed or server.returncode != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
