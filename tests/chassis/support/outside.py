"""The world outside, played on 127.0.0.1: a name service, servers at public addresses, and a record of every dial.

Both seams are the lowest there are, `socket.getaddrinfo` and `connect`, so that it makes no difference how the code
under test resolves and dials. Nothing leaves the machine: an address without a server refuses connections.
"""

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

PUBLIC = "93.184.215.14"
ANOTHER = "151.101.1.140"

Handler = Callable[[socket.socket, bytes], None]


class Outside:
    """Names, servers and what was asked of them.

    `lookups` holds the names that were resolved, `dialled` the addresses and ports that were connected to;
    `lookup_time` is how many seconds a look-up takes.
    """

    def __init__(self) -> None:
        self.lookups: list[str] = []
        self.lookup_time = 0.0
        self.dialled: list[tuple[str, int]] = []
        self._names: dict[str, list[tuple[str, ...]]] = {}
        self._places: dict[str, int] = {}

    def name(self, host: str, *answers: str | tuple[str, ...]) -> None:
        """Let `host` resolve to the first of `answers`, then to the next, and to the last one from then on."""
        self._names[host] = [(answer,) if isinstance(answer, str) else answer for answer in answers]

    def place(self, address: str, server: "Server") -> None:
        """Put `server` at a public address, on every port."""
        self._places[address] = server.port

    def site(self, host: str, address: str, server: "Server") -> None:
        """Give `server` a name and an address."""
        self.name(host, address)
        self.place(address, server)

    def resolve(self, host: str | bytes | None, port: int, **_: Any) -> list[Any]:
        """Stand in for `socket.getaddrinfo`."""
        text = host.decode() if isinstance(host, bytes) else str(host)
        self.lookups.append(text)
        threading.Event().wait(self.lookup_time)
        answers = self._names.get(text)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in found
        ]

    def connect(self, connection: socket.socket, address: Any, connect: Callable[..., None]) -> None:
        """Stand in for `socket.socket.connect`."""
        host, port = address[0], address[1]
        self.dialled.append((host, port))
        if host in self._places:
            # An IPv6 socket reaches an IPv4 listener by its mapped address.
            local = "::ffff:127.0.0.1" if connection.family == socket.AF_INET6 else "127.0.0.1"
            connect(connection, (local, self._places[host], *address[2:]))
        elif host in {"127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"}:  # what the attacks are after
            connect(connection, address)
        else:
            raise ConnectionRefusedError(f"{host} is outside")


@contextmanager
def outside_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    """Replace name service and dialling by an `Outside`."""
    outside = Outside()
    connect = socket.socket.connect

    def resolve(host: str | bytes | None, port: int, *args: Any, **options: Any) -> list[Any]:
        return outside.resolve(host, port)

    with monkeypatch.context() as patch:
        for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(variable)
        patch.setattr(socket, "getaddrinfo", resolve)
        patch.setattr(socket.socket, "connect", lambda self, address: outside.connect(self, address, connect))
        yield outside


class Server:
    """A server that answers each connection once, by a function. `requests` holds the heads that it was sent."""

    def __init__(self, handler: Handler, *, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.sent = 0
        self._handler = handler
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def headers(self, number: int = -1) -> Mapping[str, str]:
        """Return the headers of a request, with lower-case names."""
        lines = self.requests[number].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}

    def close(self) -> None:
        """Stop accepting."""
        self._listener.close()

    def read_head(self, connection: socket.socket) -> bytes:
        """Read one request head and note it."""
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = connection.recv(65536)
            if not chunk:
                return b""
            head += chunk
        self.requests.append(head)
        return head

    def send_until_closed(self, connection: socket.socket, chunk: bytes, *, limit: int, pause: float = 0) -> None:
        """Send `chunk` again and again, counting the bytes in `sent`."""
        waiting = threading.Event()
        while self.sent < limit:
            connection.sendall(chunk)
            self.sent += len(chunk)
            waiting.wait(pause)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            if head := self.read_head(connection):
                self._handler(connection, head)
        except OSError:
            pass
        finally:
            connection.close()


class Canary:
    """A listener on loopback that no request may ever reach."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._count = 0

    @property
    def connections(self) -> int:
        """How many connections it got. The kernel completes them before `connect` returns, so none is missed."""
        while True:
            try:
                self._listener.accept()[0].close()
            except BlockingIOError:
                return self._count
            self._count += 1

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def reply(body: bytes = b"hello", *headers: str, status: str = "200 OK") -> bytes:
    """Return an answer on the wire."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    """Return a redirect on the wire."""
    return reply(b"", f"Location: {location}", status=status)


def answers(data: bytes | Callable[[str], bytes]) -> Handler:
    """Return a handler that sends `data`, or what `data` makes of the request's path."""

    def handle(connection: socket.socket, head: bytes) -> None:
        connection.sendall(data(head.split()[1].decode()) if callable(data) else data)

    return handle
