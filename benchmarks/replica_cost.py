"""What one request costs a replica and its Redis, in processor time: the figures behind docs/platforms.md.

Processor time does not depend on what else the machine does, much. Run it with the Python of an installed project:

    cd .scratch/project/secure-mcp-server && python ../../../benchmarks/replica_cost.py

Linux only (it reads /proc). Needs redis-server.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REQUESTS = 3000
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
PARAMS = {"name": "hello_world", "arguments": {"name": "World"}}
ERA = "2026-07-28"


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in the kernel too."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until the port accepts connections."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port}")


def ask(port: int, key: str, times: int) -> None:
    """Call the tool so many times on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": ERA,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    }
    body = json.dumps(CALL | {"params": PARAMS | {"_meta": meta}})
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": ERA,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "hello_world",
    }
    for _ in range(times):
        connection.request("POST", "/mcp", body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200 or b"Hello, World!" not in answer:
            raise SystemExit(f"{response.status}: {answer[:300]!r}")
    connection.close()


def cost(package: str, directory: Path, redis: tuple[int, int] | None) -> tuple[float, float]:
    """Return the milliseconds of processor time of one request: of the replica, and of Redis."""
    port, key = free_port(), secrets.token_urlsafe(32)
    environment = {**os.environ, "PORT": str(port), "API_KEY": key, "MAX_REQUESTS_PER_MINUTE": "1000000"}
    environment |= {"LOG_FORMAT": "json", "SECRETS_DIR": os.devnull, "REDIS_URL": ""}
    if redis is not None:
        environment |= {"REDIS_URL": f"redis://127.0.0.1:{redis[0]}/0", "STATE_SECRET": secrets.token_urlsafe(32)}
    with (directory / "log").open("wb") as log:
        command = [sys.executable, "-m", package, "serve"]
        server = subprocess.Popen(command, env=environment, cwd=directory, stdout=log, stderr=log)
        try:
            wait_for(port)
            ask(port, key, 300)
            processes = [server.pid] if redis is None else [server.pid, redis[1]]
            before = [processor_seconds(pid) for pid in processes]
            ask(port, key, REQUESTS)
            used = [processor_seconds(pid) - start for pid, start in zip(processes, before, strict=True)]
        finally:
            server.terminate()
            server.wait(30)
    return used[0] * 1000 / REQUESTS, used[1] * 1000 / REQUESTS if redis is not None else 0.0


def main() -> None:
    """Measure alone and with Redis, interleaved, three times, and print the least of each."""
    package = next(path.parent.name for path in sorted(Path("src").glob("*/server.py")))
    os.environ["PYTHONPATH"] = str(Path("src").resolve())
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        redis = subprocess.Popen([shutil.which("redis-server") or "redis-server", *options], stdout=subprocess.DEVNULL)
        try:
            wait_for(port)
            pairs = [(cost(package, Path(name), None), cost(package, Path(name), (port, redis.pid))) for _ in range(3)]
        finally:
            redis.terminate()
            redis.wait(30)
    print(f"a replica alone:    {min(alone[0] for alone, _ in pairs):.2f} ms of processor time a request")
    print(f"a replica on Redis: {min(shared[0] for _, shared in pairs):.2f} ms")
    print(f"Redis itself:       {min(shared[1] for _, shared in pairs):.3f} ms")


if __name__ == "__main__":
    main()
