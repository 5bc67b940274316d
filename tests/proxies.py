"""Reverse proxies for tests: the example files of a project in real programs, on ports of this machine's own."""

import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from socket import create_connection, socket
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import dev

HOST_OF_NGINX = "mcp.example.com"


def program(name: str) -> str:
    """Return where a program is that pip installs with the test tools."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert found is not None, f"{name} is missing: `python dev.py test` installs it"
    return found


def needs(name: str, *, package: str | None = None) -> None:
    """Skip a test whose program is not on this machine; in CI that is a failure."""
    if shutil.which(name) is None:
        reason = f"{name} is not installed: apt-get install {package or name}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def free_port() -> int:
    """Return a free port."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], *, seconds: float = 30) -> None:
    """Wait until `condition()` is true, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not true after {seconds} s"
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether connections are accepted there."""
    with socket() as probe:
        # Left to itself, a socket may get this very port for its own end, and then it connects to itself.
        probe.bind(("127.0.0.1", 0))
        return bool(probe.getsockname()[1] != port) and probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs: its port, the name it is called by, and the authorities its certificate is checked with."""

    port: int
    name: str
    tls: ssl.SSLContext

    @property
    def url(self) -> str:
        """What the servers behind it need as PUBLIC_URL."""
        return f"https://{self.name}:{self.port}"

    @contextmanager
    def connection(self, *, name: str | None = None) -> Iterator[HTTPConnection]:
        """Connect over TLS, without asking a name server."""
        connection = HTTPConnection(name or self.name, self.port)
        raw = create_connection(("127.0.0.1", self.port), timeout=20)
        try:
            connection.sock = self.tls.wrap_socket(raw, server_hostname=name or self.name)
            yield connection
        finally:
            connection.close()
            raw.close()

    @contextmanager
    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """Send one request and yield the answer, of which only the head has been read."""
        with self.connection() as connection:
            connection.request(method, path, body, headers or {})
            yield connection.getresponse()


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for `HOST_OF_NGINX` that signs itself, for a day; return it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST_OF_NGINX)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST_OF_NGINX)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = directory / "cert.pem", directory / "cert-key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


def nginx_directory(directory: Path, text: str, *, port: int | None = None, servers: Sequence[int] = (8080,)) -> Path:
    """Write what nginx needs to run with the example: only ports, addresses and the certificate are changed."""
    chain, key = certificate(directory)
    text = re.sub(r"listen 443", f"listen 127.0.0.1:{port or free_port()}", text)
    text = re.sub(r"listen 80", f"listen 127.0.0.1:{free_port()}", text)
    text = re.sub(r"ssl_certificate /\S+;", f"ssl_certificate {chain};", text)
    text = re.sub(r"ssl_certificate_key /\S+;", f"ssl_certificate_key {key};", text)
    line = re.search(r"(?m)^    server 127\.0\.0\.1:(\d+)(.*)$", text)
    assert line is not None
    lines = [f"    server 127.0.0.1:{server}{line[2]}" for server in servers]
    (directory / "example.conf").write_text(text.replace(line[0], "\n".join(lines)), encoding="utf-8")
    temporary = "".join(
        f"    {kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        ("user root;\n" if hasattr(os, "geteuid") and os.geteuid() == 0 else "")
        + f"worker_processes 1;\ndaemon off;\npid {directory}/nginx.pid;\nerror_log {directory}/error.log info;\n"
        + f"events {{}}\nhttp {{\n    access_log off;\n{temporary}    include {directory}/example.conf;\n}}\n",
        encoding="utf-8",
    )
    return directory


@contextmanager
def nginx(project: Path, directory: Path, port: int, servers: Sequence[int]) -> Iterator[Proxy]:
    """Run nginx with the project's example in front of servers on these ports."""
    needs("nginx")
    text = (project / "deploy/nginx/mcp-server.conf").read_text(encoding="utf-8")
    nginx_directory(directory, text, port=port, servers=servers)
    with running(["nginx", "-p", str(directory), "-c", "nginx.conf"], directory, {}) as process:
        yield from ready(process, directory, port, HOST_OF_NGINX, directory / "cert.pem")


@contextmanager
def caddy(project: Path, directory: Path, port: int, servers: Sequence[int]) -> Iterator[Proxy]:
    """Run Caddy with the project's example in front of servers on these ports."""
    text = (project / "deploy/caddy/Caddyfile").read_text(encoding="utf-8")
    # A port for plain HTTP that is free, and in the health check the Host of servers that are not on port 8080.
    own = text.replace("\tadmin off\n", f"\tadmin off\n\thttp_port {free_port()}\n")
    own = own.replace("Host localhost:8080", f"Host localhost:{servers[-1]}")
    assert own.count("http_port") == own.count(f":{servers[-1]}") == 1
    (directory / "Caddyfile").write_text(own, encoding="utf-8")
    environment = {
        "DOMAIN": f"https://localhost:{port}",
        "SERVERS": " ".join(f"127.0.0.1:{server}" for server in servers),
        "XDG_DATA_HOME": str(directory),
        "XDG_CONFIG_HOME": str(directory),
    }
    command = [program("caddy"), "run", "--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]
    authority = directory / "caddy/pki/authorities/local/root.crt"
    with running(command, directory, environment) as process:
        yield from ready(process, directory, port, "localhost", authority)


def ready(
    process: "subprocess.Popen[bytes]", directory: Path, port: int, name: str, authority: Path
) -> Iterator[Proxy]:
    """Wait until a proxy has a certificate and answers with it."""

    def answers() -> bool:
        if not authority.exists() or not listens(port):
            return False
        proxy = Proxy(port, name, ssl.create_default_context(cafile=str(authority)))
        try:
            with proxy.request("GET", "/livez") as answer:
                return answer.status < 500
        except (OSError, HTTPException):
            return False

    wait_until(lambda: process.poll() is not None or answers())
    assert process.poll() is None, (directory / "output").read_text()
    yield Proxy(port, name, ssl.create_default_context(cafile=str(authority)))


@contextmanager
def running(
    command: Sequence[str], directory: Path, environment: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program with its output in a file of `directory`, and stop it at the end."""
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            dev.stop(process)
