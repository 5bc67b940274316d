"""The server under attack: a process of its own, in a temporary directory, with two keys and without call limits.

A process of its own because an attack that works may end it, hang it or read its environment, and because a tool such
as `SafeRoot("notes")` ties itself to the directory that it is started in: nothing must land in yours.
"""

import http.client
import os
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, cast

from ..app import create_app
from ..auth.principal import ALL_SCOPES, Principal
from ..auth.verifier import InvalidCredential
from ..http_server import make_server
from ..middleware.authentication import AuthenticationLayer
from ..observability.events import EventLog
from ..observability.logging import configure_logging
from ..policy.guard import GuardedServer
from ..server import unchecked_server
from ..settings import Settings, load_settings

_OTHER_KEY = "ATTACK_OTHER_KEY"
_STARTING = 30.0  # seconds


class OtherKey:
    """A second key, for a second principal, whose data the first must never see."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    async def verify(self, token: str) -> Principal:
        """Return the other principal, or raise `InvalidCredential`."""
        if not secrets.compare_digest(token.encode(), self._key):
            raise InvalidCredential("unknown")
        return Principal("key:other", "key", frozenset({ALL_SCOPES}))


def server_of(module: str | None, settings: Settings) -> GuardedServer:
    """Return the project's server, or one with the `TOOLS`, `RESOURCES` and `PROMPTS` of another module."""
    if module is None:
        return unchecked_server(EventLog(), settings)
    listed = import_module(module)
    tools, resources, prompts = (getattr(listed, name, ()) for name in ("TOOLS", "RESOURCES", "PROMPTS"))
    limit = settings.max_result_bytes
    return GuardedServer(
        module, tools=tools, resources=resources, prompts=prompts, events=EventLog(), max_result_bytes=limit
    )


def settings_for_attacks(port: int = 8080, key: str | None = None) -> Settings:
    """Return settings that read no `.env`: without rate limit, on loopback."""
    return load_settings(
        _env_file=None,
        host="127.0.0.1",
        port=port,
        api_key=key or secrets.token_urlsafe(32),
        enable_auth=True,
        auth_mode="api-key",
        enable_rate_limit=False,
        enable_request_logging=False,
        environment="development",
    )


class Target:
    """A running server.

    Args:
        directory: where it runs and where its log goes.
        environment: added to this process's own.
        module: serves the tools of that module instead of the project's.
    """

    def __init__(self, directory: Path, environment: dict[str, str], module: str | None = None) -> None:
        self._directory, self._environment, self._module = directory, environment, module
        self.key, self.other_key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start afresh after an attack that the server did not survive."""
        self.__exit__()
        self._start()

    def alive(self) -> bool:
        """Whether it answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        own = {name.upper() for name in Settings.model_fields}
        inherited = {name: value for name, value in os.environ.items() if name.upper() not in own}
        variables = {
            "SECRETS_DIR": os.devnull,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONUTF8": "1",
        }
        keys = {"API_KEY": self.key, _OTHER_KEY: self.other_key}
        program = [sys.executable, "-m", __name__, str(self.port), *([self._module] if self._module else [])]
        log = self._directory.parent / "log.txt"
        with log.open("wb") as written:
            self._process = subprocess.Popen(  # noqa: S603  # this very program
                program,
                cwd=self._directory,
                env=inherited | self._environment | variables | keys,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
            )
        until = time.monotonic() + _STARTING
        while not self.alive():
            if self._process.poll() is not None or time.monotonic() > until:
                said = log.read_text(errors="replace")[-2000:]
                self.__exit__()
                raise RuntimeError(f"the server to attack did not start:\n{said}")
            time.sleep(0.05)


def serve_target(port: int, module: str | None = None) -> None:
    """Serve until killed, in the process under attack."""
    settings = settings_for_attacks(port, os.environ["API_KEY"])
    configure_logging("CRITICAL", log_format="json", secrets=settings.secrets)
    server = server_of(module, settings)
    # What keeps callers from trying often would only hide what lies behind it.
    server.guarded_tools = MappingProxyType({n: replace(g, limiter=None) for n, g in server.guarded_tools.items()})
    app = create_app(settings, server)
    for layer in app.user_middleware:
        options: dict[str, Any] = layer.kwargs
        if cast(object, layer.cls) is AuthenticationLayer:
            options["verifiers"] = [*options["verifiers"], OtherKey(os.environ[_OTHER_KEY])]
    make_server(app, settings).run()


if __name__ == "__main__":
    serve_target(int(sys.argv[1]), *sys.argv[2:])
