"""What the two response modes of the MCP endpoint cost the server, as a ratio: one JSON document, or a stream.

    python benchmarks/response_modes.py PROJECT

PROJECT is a generated project whose package is installed in this environment, or whose `src` is on PYTHONPATH. The
server runs on loopback and answers `hello_world` for one client, in interleaved rounds, once asked for progress and
once not. What is compared is its processor time per request (Linux: from /proc), medians of five rounds.
"""

import http.client
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

REQUESTS, TURNS = 600, 5
VERSIONS = ("2026-07-28", "2025-11-25")


def main() -> int:
    """Measure, and print one line for each protocol era."""
    project = Path(sys.argv[1]).resolve()
    (package,) = (path.parent.name for path in (project / "src").glob("*/server.py"))
    key, port = secrets.token_urlsafe(32), free_port()
    environment = os.environ | {
        "API_KEY": key,
        "PORT": str(port),
        "MAX_REQUESTS_PER_MINUTE": "1000000",
        "PYTHONPATH": os.pathsep.join([str(project / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", package, "serve"]
    with subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(port)
            for version in VERSIONS:
                costs: dict[bool, list[float]] = {False: [], True: []}
                for _ in range(TURNS):
                    for progress, found in costs.items():
                        found.append(cost(server.pid, port, key, version, progress=progress))
                json_cost, stream_cost = (statistics.median(found) for found in costs.values())
                print(f"{version}: JSON 1.00, stream {stream_cost / json_cost:.2f}")
        finally:
            server.terminate()
    return 0


def cost(pid: int, port: int, key: str, version: str, *, progress: bool) -> float:
    """Return the server's processor seconds for one request."""
    body, headers = request(key, version, progress=progress)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    before = processor_seconds(pid)
    for _ in range(REQUESTS):
        connection.request("POST", "/mcp", body, headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
    connection.close()
    return (processor_seconds(pid) - before) / REQUESTS


def request(key: str, version: str, *, progress: bool) -> tuple[str, dict[str, str]]:
    """Return one call of `hello_world`, with or without a progress token."""
    meta: dict[str, object] = {"progressToken": "t"} if progress else {}
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": version,
    }
    if version == VERSIONS[0]:
        meta |= {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
        headers |= {"mcp-method": "tools/call", "mcp-name": "hello_world"}
    params = {"name": "hello_world", "arguments": {"name": "Ann"}, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}), headers


def processor_seconds(pid: int) -> float:
    """Return what a process has used so far, to the nanosecond: the clock of /proc/PID/stat ticks every 10 ms."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    """Wait until `port` accepts connections."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
