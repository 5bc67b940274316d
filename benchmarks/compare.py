"""What the layers cost: a generated project against the bare SDK, a bare ASGI function, and FastMCP, as ratios.

    python benchmarks/compare.py PROJECT [--quick] [--fastmcp PYTHON] [--wrk] [--chart FILE]

Run it with an interpreter that has the project's dependencies. PYTHON is one that has fastmcp, in an environment of its
own, because fastmcp may want another version of the SDK: `uv venv f && VIRTUAL_ENV=f uv pip install fastmcp`. `--wrk`
lets wrk make the load (Debian has it): a second opinion, from a program that shares nothing with `load.py`. `--chart`
draws the comparison of calls from the figures of this run, as in `docs/comparison.svg`.

All servers run at the same time and are loaded in interleaved rounds, so that what else the machine does meets all of
them. What is compared is the server's processor time per request (Linux: from /proc), because client and server share
the machine. Every row says what the SDK costs on the parser that our server has, the median of the rounds, and then
ratios to it: 0.90 means that the SDK takes 0.90 of the processor time that the server in question takes. Each ratio is
the median of those of the rounds, because from one round to another the machine itself changes its speed.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import chart
from response_modes import free_port, processor_seconds

HERE = Path(__file__).parent
NEWER, OLDER = "2026-07-28", "2025-11-25"
PAYLOADS = {"100 B": (100, 500), "10 KB": (10_000, 300), "1 MB": (1_000_000, 12)}
CLIENTS = (1, 16, 64)
HTTPTOOLS = "sdk on httptools"
"""The SDK's application on the parser that our server has, too. By itself it installs h11."""
TITLES = {
    "raw": "a bare function on h11",
    "sdk": "the SDK as it comes, on h11",
    HTTPTOOLS: "the SDK on httptools",
    "fastmcp": "FastMCP with its own layers",
    "ours": "this template, all layers on",
}
DRAWN = 16  # clients of the loads in the chart
_META = "io.modelcontextprotocol/"
Load = Callable[..., dict[str, float]]


@dataclass
class Server:
    """A running server and what it needs to be asked."""

    name: str
    port: int
    pid: int
    key: str
    start_seconds: float = 0
    idle_bytes: int = 0


@dataclass
class Cost:
    """What one load cost, a value for every round."""

    cpu: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def main() -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("--quick", action="store_true", help="one client, the small payload, fewer rounds")
    parser.add_argument("--fastmcp", help="an interpreter that has fastmcp")
    parser.add_argument("--wrk", action="store_true", help="compare calls only, under the load of wrk")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the comparison of calls into an SVG")
    options = parser.parse_args()
    project = options.project.resolve()
    names = ["raw", "sdk", HTTPTOOLS, *(["fastmcp"] if options.fastmcp else []), "ours"]
    with contextlib.ExitStack() as running:
        servers = [running.enter_context(start(name, project, options.fastmcp)) for name in names]
        found = calls(servers, load_by_wrk if options.wrk else load, quick=options.quick)
        if options.chart is not None:
            options.chart.write_text(chart.draw(found, ours=TITLES["ours"]), encoding="utf-8")
        if options.wrk:
            return 0
        memory(servers)
    starts(project, names, options.fastmcp, rounds=5 if options.quick else 9)
    refusals(project, quick=options.quick)
    return 0


@contextlib.contextmanager
def start(name: str, project: Path, fastmcp: str | None, *arguments: str, **settings: str) -> Iterator[Server]:
    """Start one server, wait for its first answer, and stop it at the end."""
    key, port = secrets.token_urlsafe(32), free_port()
    environment = os.environ | {
        "API_KEY": key,
        "MAX_REQUESTS_PER_MINUTE": "1000000",
        "PYTHONDONTWRITEBYTECODE": "",  # an installed server is compiled
        "MAX_BODY_BYTES": str(4 << 20),
        "TRUSTED_ORIGINS": "https://app.example.com",
        "PYTHONPATH": os.pathsep.join([str(project / "src"), os.environ.get("PYTHONPATH", "")]),
        **({"HTTP": "httptools"} if name == HTTPTOOLS else {}),
        **settings,
    }
    interpreter = fastmcp if name == "fastmcp" and fastmcp else sys.executable
    own = [str(project)] if name == "ours" else []
    command = [interpreter, str(HERE / "servers.py"), name.partition(" ")[0], str(port), *own, *arguments]
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as log,
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=log) as process,
    ):
        try:
            server = Server(name, port, process.pid, key)
            first_answer(server, process)
            server.start_seconds = time.perf_counter() - started
            server.idle_bytes = resident_bytes(process.pid)
            yield server
        except ChildProcessError:
            log.seek(0)
            print(log.read().decode()[-2000:], file=sys.stderr)
            raise
        finally:
            process.terminate()


def first_answer(server: Server, process: subprocess.Popen[bytes]) -> None:
    """Ask until the server answers."""
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/mcp", timeout=5)
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None:
                raise ChildProcessError(f"{server.name} did not start") from None
            time.sleep(0.005)
        else:
            return


def call(
    server: Server,
    version: str,
    *,
    size: int = 100,
    tool: str = "echo",
    method: str = "tools/call",
    arguments: Mapping[str, object] | None = None,
) -> bytes:
    """Return one request as bytes."""
    params: dict[str, Any] = {}
    if method == "tools/call":
        params = {"name": tool, "arguments": arguments or {"text": "x" * size}}
    headers = {"MCP-Protocol-Version": version}
    if version == NEWER:
        info = {"name": "benchmark", "version": "1"}
        params["_meta"] = {
            f"{_META}protocolVersion": version,
            f"{_META}clientCapabilities": {},
            f"{_META}clientInfo": info,
        }
        headers |= {"Mcp-Method": method} | ({"Mcp-Name": tool} if method == "tools/call" else {})
    return post(server, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, headers)


def post(server: Server, message: object, headers: Mapping[str, str]) -> bytes:
    """Return one POST as bytes; `headers` win over what is usual."""
    body = json.dumps(message).encode()
    usual = {
        "Host": f"127.0.0.1:{server.port}",
        "Authorization": f"Bearer {server.key}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Content-Length": str(len(body)),
    }
    lines = [f"{name}: {value}\r\n" for name, value in (usual | dict(headers)).items() if value]
    return f"POST /mcp HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + body


def load(server: Server, request: bytes, *, clients: int, requests: int, status: str = "200") -> dict[str, float]:
    """Put load on a server; return processor seconds per request, and what the client saw."""
    command = [sys.executable, str(HERE / "load.py"), str(server.port), str(clients), str(requests)]
    before = processor_seconds(server.pid)
    done = subprocess.run(command, input=request, capture_output=True, check=True)
    used = processor_seconds(server.pid) - before
    found: dict[str, Any] = json.loads(done.stdout)
    # All but one: the strictest rate limit lets one request pass in a minute.
    assert found["statuses"].get(status, 0) >= requests - 1, (server.name, found["statuses"])
    return {"cpu": used / requests, **{name: found[name] / 1 for name in ("seconds", "p50", "p99")}}


def load_by_wrk(server: Server, request: bytes, *, clients: int, requests: int) -> dict[str, float]:
    """The same by wrk, for two seconds, however many requests those are."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    script = [f"wrk.headers[{name!r}] = {value!r}" for name, value in lines if name != "Content-Length"]
    script += ["wrk.method = 'POST'", f"wrk.body = [==[{body.decode()}]==]"]
    script += ["done = function(summary, latency, _) local e = summary.errors; print(string.format('%d %d %d %d %d',"]
    script += ["  summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),"]
    script += ["  e.connect + e.read + e.write + e.status + e.timeout)) end"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write("\n".join(script))
        file.flush()
        options = ("--threads=1", f"--connections={clients}", "--duration=2s", f"--script={file.name}")
        before = processor_seconds(server.pid)
        command = [shutil.which("wrk") or "wrk", *options, f"http://127.0.0.1:{server.port}/mcp"]
        done = subprocess.run(command, capture_output=True, check=True)
        used = processor_seconds(server.pid) - before
    count, duration, p50, p99, errors = map(int, done.stdout.split()[-5:])
    assert errors == 0, (server.name, errors)
    # `compare` divides by the number of requests that it has asked for.
    return {
        "cpu": used / count,
        "seconds": duration / 1e6 / count * max(requests, clients),
        "p50": p50 / 1e3,
        "p99": p99 / 1e3,
    }


def calls(servers: list[Server], load: Load, *, quick: bool) -> list[chart.Load]:
    """Compare calls of every kind, and return what the chart shows of them."""
    others = [f"{server.name}: CPU" for server in servers if server.name != HTTPTOOLS]
    of_ours = ("throughput", "p50", "p99")
    columns = ("Protocol", "Payload", "Clients", f"{HTTPTOOLS}: CPU, p50, p99", *others, *of_ours)
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    drawn = []
    for version in (NEWER, OLDER):
        for payload, (size, requests) in list(PAYLOADS.items())[: 1 if quick else None]:
            for clients in CLIENTS[: 1 if quick else None]:
                few = {"size": size, "requests": requests, "clients": clients}
                ratios = compare(servers, load, version, payload, **few, quick=quick)
                if quick or (clients == DRAWN and payload != "1 MB"):
                    number = "1 client" if clients == 1 else f"{clients} clients"
                    drawn.append(chart.Load(f"MCP {version}, {payload}, {number}", ratios))
    return drawn


def compare(
    servers: list[Server],
    load: Load,
    version: str,
    payload: str,
    *,
    size: int,
    requests: int,
    clients: int,
    quick: bool,
) -> dict[str, float]:
    """Measure one kind of call on every server, print a row, and return the ratios of processor time by title."""
    costs = {server.name: Cost() for server in servers}
    for number in range(6 if quick else 10):
        for server in servers:
            few = requests // 4 if server.name == "fastmcp" else requests
            found = load(server, call(server, version, size=size), clients=clients, requests=max(few, clients))
            found["seconds"] /= max(few, clients)
            if number:  # the first one warms up
                for name, value in found.items():
                    getattr(costs[server.name], name).append(value)
    base, ours = costs[HTTPTOOLS], costs["ours"]
    absolute = f"{median(base.cpu) * 1e6:.0f} µs, {median(base.p50):.1f} ms, {median(base.p99):.1f} ms"
    ratios = {name: ratio(base.cpu, cost.cpu) for name, cost in costs.items()}
    shown = [value for name, value in ratios.items() if name != HTTPTOOLS]
    shown += [ratio(getattr(base, what), getattr(ours, what)) for what in ("seconds", "p50", "p99")]
    figures = " | ".join(f"{value:.2f}" for value in shown)
    print(f"| {version} | {payload} | {clients} | {absolute} | {figures} |", flush=True)
    return {TITLES[name]: value for name, value in ratios.items()}


def ratio(these: list[float], those: list[float]) -> float:
    """Return the median ratio of what was measured in the same round."""
    return median([one / other for one, other in zip(these, those, strict=True)])


def memory(servers: list[Server]) -> None:
    """Print what the servers hold."""
    print("\n| Server | Memory idle | loaded |\n| --- | --- | --- |")
    for server in servers:
        print(f"| {server.name} | {server.idle_bytes / 1e6:.0f} MB | {resident_bytes(server.pid) / 1e6:.0f} MB |")


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def starts(project: Path, names: list[str], fastmcp: str | None, *, rounds: int) -> None:
    """Compare the time from the start of the process to its first answer."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, found in seconds.items():
            with start(name, project, fastmcp) as server:
                found.append(server.start_seconds)
    print("\n| Server | Start to first answer, of the SDK's |\n| --- | --- |")
    for name, found in seconds.items():
        print(f"| {name} | {ratio(found, seconds['sdk']):.2f} |")


def refusals(project: Path, *, quick: bool) -> None:
    """Compare refusals, and a long listing, with a served call of the same server, and with a bare 401."""
    few = {"MAX_REQUESTS_PER_MINUTE": "1", "RATE_LIMIT_BURST": "1"}
    with (
        start("raw on httptools", project, None, HTTP="httptools") as bare,
        start("ours", project, None, "100") as server,
        start("ours", project, None, "100", **few) as limited,
    ):
        served = call(server, NEWER)
        load(limited, call(limited, NEWER), clients=1, requests=1)
        kinds = {
            "served": (server, served, "200"),
            "401 of a bare function on httptools": (bare, post(bare, {}, {"Authorization": ""}), "401"),
            "401": (server, post(server, {}, {"Authorization": ""}), "401"),
            "403": (server, post(server, {}, {"Origin": "https://evil.example"}), "403"),
            # Closing, because the server takes some of a body it has refused: what follows would be that.
            "413": (server, post(server, {}, {"Content-Length": "99999999", "Connection": "close"}), "413"),
            "421": (server, post(server, {}, {"Host": "evil.example"}), "421"),
            "429": (limited, call(limited, NEWER), "429"),
            "tools/list, 100 tools": (server, call(server, NEWER, method="tools/list"), "200"),
            "tools/list, 100 tools, older": (server, call(server, OLDER, method="tools/list"), "200"),
        }
        costs: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(5 if quick else 9):
            for kind, (target, request, status) in kinds.items():
                costs[kind].append(load(target, request, clients=1, requests=400, status=status)["cpu"])
        print("\n| Request | CPU, of a served call | of a bare 401 |\n| --- | --- | --- |")
        least = costs["401 of a bare function on httptools"]
        for kind, found in costs.items():
            print(f"| {kind} | {ratio(found, costs['served']):.2f} | {ratio(found, least):.2f} |")


if __name__ == "__main__":
    sys.exit(main())
