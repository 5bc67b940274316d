"""HTTP as an attacker writes it: any header any number of times, any bytes, on a connection of its own."""

import http.client
import json
import socket
import struct
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..support.running import RunningServer

Header = tuple[str, str | bytes]

JSON: Header = ("Content-Type", "application/json")
ACCEPT: Header = ("Accept", "application/json, text/event-stream")
RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""As `SO_LINGER`: to close a connection by a reset, without an end."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def text(self) -> str:
        """The body, as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, as what its JSON stands for."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """Return the value of a header that may be there once."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


class _Connection(http.client.HTTPConnection):
    """Sends head and body at once: a server that refuses the head hangs up, perhaps before a later body arrives."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._pending = b""

    def send(self, data: Any) -> None:
        """Keep what the library would send piece by piece."""
        self._pending += bytes(data)

    def getresponse(self) -> http.client.HTTPResponse:
        """Send everything, then read the answer."""
        self.connect()
        self.sock.sendall(self._pending)
        return super().getresponse()


def send(
    server: RunningServer,
    method: str,
    path: str,
    headers: Iterable[Header] = (),
    body: bytes = b"",
    *,
    host: str | None = None,
) -> Answer:
    """Send one request with exactly these headers, and `Host` and `Content-Length` where needed."""
    connection = _Connection("127.0.0.1", server.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host if host is not None else f"127.0.0.1:{server.port}")
        for name, value in headers:
            connection.putheader(name, value)
        if body or method == "POST":
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        return Answer(response.status, tuple(response.getheaders()), response.read())
    finally:
        connection.close()


def key_of(server: RunningServer) -> Header:
    """Return the header of a caller who holds the key."""
    return "Authorization", f"Bearer {server.key}"


def with_key(server: RunningServer, *headers: str) -> list[str]:
    """Return the headers of an MCP request, as lines, and more."""
    credentials = f"Authorization: Bearer {server.key}"
    return [credentials, "Content-Type: application/json", "Accept: application/json, text/event-stream", *headers]


def forwarded_for(addresses: str) -> Header:
    """Return the header in which a proxy names its client, and any client may claim any address."""
    return "X-Forwarded-For", addresses


def post(server: RunningServer, body: bytes, headers: Iterable[Header] = (JSON,), path: str = "/mcp") -> Answer:
    """Send a body to the MCP endpoint, with the key."""
    return send(server, "POST", path, (key_of(server), ACCEPT, *headers), body)


def open_connections(server: RunningServer) -> int:
    """Return what the server says of its connections, this one among them."""
    count: int = send(server, "GET", "/health", [key_of(server)]).json()["open_connections"]
    return count


def rpc(server: RunningServer, method: str, params: dict[str, Any] | None = None) -> Any:
    """Send one request as a client of the older revisions does, with the key, and return the JSON-RPC response."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return post(server, json.dumps(message).encode()).json()


def call(server: RunningServer, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
    """Call a tool. Return whether the result is an error, and its text."""
    result = rpc(server, "tools/call", {"name": tool, "arguments": arguments})["result"]
    return result["isError"], "".join(block["text"] for block in result["content"])


def request_text(server: RunningServer, start: str, headers: Iterable[str] = (), body: str = "") -> bytes:
    """Return one request as bytes, for a connection that carries several, or a part of one."""
    lines = [start, f"Host: 127.0.0.1:{server.port}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body.encode())}")
    return "\r\n".join([*lines, "", body]).encode()


def seconds_until_closed(server: RunningServer, data: bytes, *, at_most: float = 5) -> float:
    """Send bytes, wait in silence, and return after how many seconds the server disconnected."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=at_most) as connection:
        connection.sendall(data)
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise AssertionError(f"the connection is still open after {at_most} s") from None
    return time.monotonic() - started
