"""Listen streams as a client of the newest revision holds them."""

import json
import socket
import time

from ..support.callers import headers, message
from ..support.running import RunningServer
from .wire import request_text

LISTEN = {"notifications": {"toolsListChanged": True}}
# Two seconds are promised; the rest is for a machine that has other things to do.
PROMISED = 2 + 2
"""Seconds in which a stream ends after its credential."""


def listen(server: RunningServer, key: str | None = None) -> tuple[socket.socket, bytes]:
    """Ask for a stream. Return the connection and the beginning of the answer, its first event if it is a stream."""
    names = headers(server, "subscriptions/listen", "", mode="auto") | {"Content-Type": "application/json"}
    names["Authorization"] = f"Bearer {key or server.key}"
    del names["Mcp-Name"]
    body = json.dumps(message("subscriptions/listen", LISTEN, mode="auto"))
    lines = [f"{name}: {value}" for name, value in names.items()]
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(request_text(server, "POST /mcp HTTP/1.1", lines, body))
    received = b""
    while b"acknowledged" not in received and b'"error"' not in received and b"detail" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    return connection, received


def is_stream(received: bytes) -> bool:
    """Whether the answer was a stream."""
    return b"text/event-stream" in received


def seconds_until_the_end(connection: socket.socket) -> float:
    """Return how long a stream goes on, and see to it that it ends with a result."""
    started = time.monotonic()
    connection.settimeout(3 * PROMISED)
    received = b""
    while b'"result"' not in received:
        chunk = connection.recv(65536)
        assert chunk, "the stream broke off instead of ending"
        received += chunk
    return time.monotonic() - started
