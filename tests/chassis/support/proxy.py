"""A real HTTP proxy on 127.0.0.1, which opens tunnels (CONNECT, RFC 9110, section 9.3.6)."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Proxy(socketserver.ThreadingTCPServer):
    """Connects to the places that it knows, by name, and refuses all others with 403.

    Args:
        places: ports of this machine by names, such as `login.example.com:443`.
        credential: what `Proxy-Authorization` has to be; empty for nothing.
        context: for a proxy that itself speaks TLS.
    """

    daemon_threads = True

    def __init__(
        self, places: Mapping[str, int], *, credential: str = "", context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.places = places
        self.credential = credential
        self.context = context
        self.asked: list[str] = []

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Its URL, without a credential."""
        return f"http://127.0.0.1:{self.port}"


class _Tunnel(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        client: socket.socket = self.request
        if self.server.context is not None:
            client = self.server.context.wrap_socket(client, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            if not (chunk := client.recv(65536)):
                return
            head += chunk
        method, place, _ = head.split(b"\r\n", 1)[0].decode().split()
        self.server.asked.append(place)
        if self.server.credential and f"\r\nProxy-Authorization: {self.server.credential}\r\n" not in head.decode():
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif method != "CONNECT" or place not in self.server.places:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        else:
            with socket.socket() as there:  # without a look-up, which tests count
                there.connect(("127.0.0.1", self.server.places[place]))
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_copy, args=(there, client), daemon=True)
                back.start()
                _copy(client, there)
                back.join(5)
        client.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one side has ended the connection


@contextmanager
def running_proxy(
    places: Mapping[str, int], *, credential: str = "", context: ssl.SSLContext | None = None
) -> Iterator[Proxy]:
    """Start a proxy and stop it at the end."""
    with Proxy(places, credential=credential, context=context) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join(5)
