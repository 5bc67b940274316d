"""What only a successful attack touches: a file, a listener, a directory of markers, secrets, another caller's data."""

import os
import re
import secrets
import socket
import socketserver
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from ...sinks.hidden import find_hidden

TOKEN = re.compile(r"canary[0-9a-f]{12}")
_INTERNAL = re.compile(
    r"Traceback \(most recent call last\)|<class '|<[\w.]+ object at 0x|site-packages|[\\/]\w+\.py\b"
)
_IN_ERRORS = re.compile(
    r"\[Errno \d+\]|\[WinError|\b(sqlite3|psycopg2?|pymysql|sqlalchemy|httpx2?|httpcore2?|pydantic|jinja2)\."
    r"|\b[A-Z][a-z]\w*(Error|Exception)\b|near \".*\": syntax error"
)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.settimeout(0.5)
        text = ""
        with suppress(OSError):
            text = self.request.recv(4096).decode("latin-1")
        token = next(iter(TOKEN.findall(text)), "")
        if isinstance(self.server, _Listener):
            self.server.hits.append(token)
        status = f"302 Found\r\nLocation: /{token}" if "/redirect/" in text else "200 OK"
        with suppress(OSError):
            self.request.sendall(f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, port: int, hits: list[str]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.hits = hits
        super().__init__((address, port), _Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Canaries(ExitStack):
    """Puts the canaries into a temporary directory, and removes it on exit.

    `work` is the directory that the attacked server runs in; `environment` holds secrets that it must not reveal.
    """

    def __init__(self) -> None:
        super().__init__()
        made = tempfile.TemporaryDirectory(prefix="attack-", ignore_cleanup_errors=True)
        root = Path(os.path.realpath(self.enter_context(made)))
        self.work, self.markers, outside = root / "work", root / "markers", root / "outside"
        for directory in (self.work, self.markers, outside):
            directory.mkdir()
        self.file = outside / "secret.txt"
        self._secret = new_mark()
        self.file.write_text(self._secret)
        self.environment = {"canary_password": new_mark()}
        self.secrets, self.other = set(self.environment.values()), new_mark()
        self.halves = new_mark()[:12], new_mark()[:12]
        self.hits: list[str] = []
        listener = self.enter_context(_Listener("127.0.0.1", 0, self.hits))
        self.port: int = listener.server_address[1]
        with suppress(OSError):  # no IPv6 here
            self.enter_context(_Listener("::1", self.port, self.hits))
        self._internal = (str(self.work), str(Path(__file__).parents[2]))

    def plant_links(self) -> None:
        """Put links to the file outside into every directory that a tool has made."""
        for directory in [self.work, *(path for path in self.work.rglob("*") if path.is_dir())]:
            for name, target in (("canary-link", self.file), ("canary-directory", self.file.parent)):
                if not directory.is_symlink() and not (directory / name).is_symlink():
                    with suppress(OSError):
                        (directory / name).symlink_to(target)

    def filled(self, text: str, *, token: str, valid: str, argument: str) -> str:
        """Return a payload with its words in angle brackets filled in."""
        words = {
            **{"<FILE>": str(self.file), "<BARE>": str(self.file).lstrip("/"), "<MARK>": str(self.markers / token)},
            **{"<HOST>": f"127.0.0.1:{self.port}", "<PORT>": str(self.port), "<TOKEN>": token},
            **{"<A>": self.halves[0], "<B>": self.halves[1], "<VALID>": valid, "<ARG>": argument},
        }
        return re.sub("|".join(words), lambda match: words[match[0]], text)

    def touched(self) -> dict[str, str]:
        """Return what was touched since the last call, by the token of the attempt, empty if it is not known."""
        seen = {}
        for path in list(self.markers.iterdir()):
            token = next(iter(TOKEN.findall(path.name)), "")
            seen[token] = "a file was created outside of every root, or a command was run"
            with suppress(OSError):
                path.unlink()
        if not self.file.exists() or self.file.read_bytes() != self._secret.encode():
            seen[""] = "a file outside of every root was changed"
            self.file.write_text(self._secret)
        while self.hits:
            seen[self.hits.pop()] = "a connection reached the listener on loopback"
        return seen

    def leaks(self, text: str, *, is_error: bool) -> dict[str, str]:
        """Return what an answer reveals: the kind of finding, and the evidence."""
        seen = {}
        if self._secret in text:
            seen["attack succeeded"] = "the content of a file outside of every root is in the answer"
        if "".join(self.halves) in text:
            seen["attack succeeded"] = "an expression in the value was evaluated"
        if any(secret in text for secret in self.secrets):
            seen["secret in the answer"] = "a secret of the process environment is in the answer"
        internal = next((part for part in self._internal if part in text), None)
        match = _INTERNAL.search(text) or (_IN_ERRORS.search(text) if is_error else None)
        if internal or match:
            seen["internal text in the answer"] = f"the answer holds {(internal or (match and match[0]))!r}"
        if find_hidden(text) is not None:
            seen["hidden text in the answer"] = "hidden characters came back"
        return seen


def new_mark() -> str:
    """Return a random word that no ordinary text contains."""
    return "".join(secrets.choice("bcdfghjkmnpqrstvwxz") for _ in range(20))
