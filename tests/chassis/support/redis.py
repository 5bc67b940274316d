"""A Redis of the tests' own, in memory only, that can be killed, hung and started again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from .running import free_port, wait_until


def program(name: str) -> str:
    """Return where a program is, or skip the test; in CI nothing may be lacking (other systems have no packages)."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    if found is None:
        hint = f"there is no {name} here: apt-get install {name}"
        if os.environ.get("CI") and sys.platform == "linux":
            pytest.fail(hint)
        pytest.skip(hint)
    return found


class Redis:
    """A Redis that listens on one port for as often as it is started.

    Args:
        options: of redis-server.
    """

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [program("redis-server"), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._command += options or ["--port", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait_for: int | None = None) -> None:
        """Start it, and wait until it listens on its port (or on another)."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(lambda: _listens(wait_for or self.port), seconds=20)

    def kill(self) -> None:
        """End it at once. What it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def hang(self) -> None:
        """Let it accept and never answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def running_redis(*options: str, wait_for: int | None = None) -> Iterator[Redis]:
    """Start one and end it."""
    redis = Redis(*options)
    redis.start(wait_for=wait_for)
    try:
        yield redis
    finally:
        redis.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
    return False
