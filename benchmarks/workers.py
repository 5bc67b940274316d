"""What a second worker adds on one machine: `serve --workers 2` against one, both sharing through one Redis.

    python benchmarks/workers.py PROJECT

Needs redis-server. The client, Redis and the workers are on the same machine: with fewer than four cores they take them
from each other, so the second figure counts: how many requests a core would serve, from the processor time of the
workers alone. Linux, for /proc.
"""

import contextlib
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compare import NEWER, Server, call, first_answer, load
from response_modes import free_port, processor_seconds

TURNS, REQUESTS, CLIENTS = 5, 2000, 16
TOOL = "hello_world"


def main() -> int:
    """Measure in interleaved rounds, and print both ratios."""
    project = Path(sys.argv[1]).resolve()
    with redis() as url, serving(project, url, 1) as one, serving(project, url, 2) as two:
        rates: dict[int, list[float]] = {1: [], 2: []}
        costs: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(TURNS + 1):
            for workers, server in ((1, one), (2, two)):
                before = used(server)
                found = load(
                    server,
                    call(server, NEWER, tool=TOOL, arguments={"name": "World"}),
                    clients=CLIENTS,
                    requests=REQUESTS,
                )
                if turn:  # the first one warms up
                    rates[workers].append(REQUESTS / found["seconds"])
                    costs[workers].append((used(server) - before) / REQUESTS)
    rate = {workers: statistics.median(values) for workers, values in rates.items()}
    cost = {workers: statistics.median(values) for workers, values in costs.items()}
    print(f"throughput of two workers, {os.cpu_count()} cores for all: {rate[2] / rate[1]:.2f} of one")
    print(f"requests for the same processor time of workers: {cost[1] / cost[2]:.2f}, so {2 * cost[1] / cost[2]:.2f} "
          "with a core for each")  # fmt: skip
    return 0


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Run a Redis that keeps nothing."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


@contextlib.contextmanager
def serving(project: Path, url: str, workers: int) -> Iterator[Server]:
    """Run the project's own command."""
    (package,) = (path.parent.name for path in (project / "src").glob("*/server.py"))
    key, port = secrets.token_urlsafe(32), free_port()
    environment = os.environ | {
        "API_KEY": key,
        "PORT": str(port),
        "REDIS_URL": url,
        "STATE_SECRET": secrets.token_urlsafe(32),
        "MAX_REQUESTS_PER_MINUTE": "1000000",
        "TOOLS_LOCK": str(project / "tools.lock.json"),
        "PYTHONPATH": os.pathsep.join([str(project / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", package, "serve", "--workers", str(workers)]
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(command, cwd=directory, env=environment, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            server = Server(f"{workers} workers", port, process.pid, key)
            first_answer(server, process)
            yield server
        finally:
            process.terminate()


def used(server: Server) -> float:
    """Return the processor seconds of a server and of its workers."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text(encoding="ascii").split()
    return sum(map(processor_seconds, [server.pid, *map(int, children)]))


if __name__ == "__main__":
    sys.exit(main())
