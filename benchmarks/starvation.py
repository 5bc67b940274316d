"""How long one request can keep the event loop, and what others notice of it.

    python benchmarks/starvation.py PROJECT [TOOL ARGUMENT]

PROJECT is a generated project whose package is installed in this environment, or whose `src` is on PYTHONPATH; TOOL is
one of its tools (`hello_world`). Each body of the table in `tests/chassis/support/hostile.py` is sent alone, then
the ten worst forty times at once, while `/livez` is asked again and again. For each body: the longest answer of
`/livez`, in seconds and as a multiple of what `json.loads` takes for the body, and the longest with forty of them.
"""

import contextlib
import http.client
import importlib.util
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from response_modes import free_port, wait_for

SIZE, MOST_NODES, WORST, CALLERS = 1_000_000, 19_800, 10, 40
TABLE = Path(__file__).parents[1] / "tests/chassis/support/hostile.py"


def main() -> int:
    """Measure, and print the worst bodies."""
    project = Path(sys.argv[1]).resolve()
    tool, argument = sys.argv[2:] or ("hello_world", "name")
    (package,) = (path.parent.name for path in (project / "src").glob("*/server.py"))
    hostile = load_table()
    key, port = secrets.token_urlsafe(32), free_port()
    environment = os.environ | {
        "API_KEY": key,
        "PORT": str(port),
        "MAX_REQUESTS_PER_MINUTE": "1000000",
        "MAX_CONNECTIONS_PER_ADDRESS": "1000",
        "PYTHONPATH": os.pathsep.join([str(project / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", package, "serve"]
    with subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(port)
            table = [
                (f"{what}, {number} values", version, body)
                for version in hostile.VERSIONS
                for nodes, number in ((MOST_NODES, "20,000"), (SIZE, "all"))
                for what, body in hostile.bodies(version, SIZE, nodes, tool=tool, argument=argument).items()
            ]

            def send(version: str, body: bytes, seconds: float = 120) -> None:
                headers = hostile.headers(version, body, tool) | {"authorization": f"Bearer {key}"}
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
                with contextlib.suppress(TimeoutError, ConnectionError):
                    connection.request("POST", "/mcp", body, headers)
                    connection.getresponse().read()
                connection.close()

            rows = []
            for what, version, body in table:
                seconds = 0.3 if " in a filter" in what else 120  # some of these open a stream
                stall = longest_wait(port, [partial(send, version, body, seconds)])
                rows.append((stall, stall / hostile.seconds_to_parse(body), what, version, body))
            rows.sort(key=lambda row: -row[0])
            print("| Body | Protocol | Longest `/livez`, s | in `json.loads` | with forty, s |")
            print("| --- | --- | --- | --- | --- |")
            for stall, multiple, what, version, body in rows[:WORST]:
                crowd = longest_wait(port, [partial(send, version, body)] * CALLERS)
                print(f"| {what} | {version} | {stall:.3f} | {multiple:.0f} | {crowd:.3f} |", flush=True)
        finally:
            server.terminate()
    return 0


def load_table() -> Any:
    """Return the module with the bodies, which is plain Python in the template too."""
    spec = importlib.util.spec_from_file_location("hostile", TABLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def longest_wait(port: int, work: list[Callable[[], None]]) -> float:
    """Return the longest answer of `/livez`, in seconds, while threads do the work."""
    threads = [threading.Thread(target=one) for one in work]
    probe = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    longest = 0.0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        asked = time.perf_counter()
        probe.request("GET", "/livez")
        probe.getresponse().read()
        longest = max(longest, time.perf_counter() - asked)
        time.sleep(0.001)
    probe.close()
    return longest


if __name__ == "__main__":
    sys.exit(main())
