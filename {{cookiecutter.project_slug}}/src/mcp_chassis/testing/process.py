"""A server in a process of its own, for tests of its standard streams, its signals and its start."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from ..settings import Settings, load_settings
from .running import RunningServer, free_port, new_secret, wait_until


@dataclass(frozen=True)
class ServerProcess:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    running: RunningServer
    directory: Path

    def written(self, stream: str = "stderr") -> str:
        """Return its output so far, with every line end unchanged."""
        return (self.directory / stream).read_bytes().decode()


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of a server: that of this process without its settings, and `settings` in upper case."""
    own = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    source = os.pathsep.join(path for path in sys.path if path)
    given = {name.upper(): value for name, value in settings.items()}
    return own | {"SECRETS_DIR": os.devnull, "PYTHONPATH": source, "PYTHONUTF8": "1"} | given


@contextmanager
def server_process(directory: Path, *, program: Sequence[str], **settings: str) -> Iterator[ServerProcess]:
    """Start a server on a free port, in an empty directory, and wait until it serves.

    Args:
        directory: where it runs and where its output goes, in files `stdout` and `stderr`.
        program: arguments of Python.
        settings: its environment.
    """
    port, key = free_port(), f"mcp_{new_secret()}"
    defaults = {"log_format": "json", "max_requests_per_minute": "1000000"}
    variables = environment(**(defaults | settings), port=str(port), api_key=key)
    with (directory / "stdout").open("wb") as out, (directory / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, *program], cwd=directory, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
    try:
        settings_here = load_settings(_env_file=None, port=port, api_key=key)
        server = ServerProcess(process, RunningServer(settings_here, key), directory)
        wait_until(lambda: process.poll() is not None or serves(server.running), seconds=30)
        assert process.poll() is None, server.written()
        yield server
    finally:
        process.kill()
        process.wait()


def serves(server: RunningServer) -> bool:
    """Whether a server answers that it is ready."""
    try:
        return server.get("/readyz").status_code == 200
    except httpx2.TransportError:
        return False
