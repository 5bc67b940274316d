"""Runs the application on uvicorn, with the options that a server on a network needs, and stops it in order."""

import faulthandler
import gc
import logging
import os
import signal
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import ChangeReload

from ..settings import Settings
from .connections import Connections
from .protocol import deadline_protocol

_STDERR = 2
_LAST_MOMENT = 2.0  # seconds after SHUTDOWN_TIMEOUT, in which what was cancelled may clean up
# What uvicorn says once for every bad request: the security events say it with the address, and without a flood.
_SAID_ELSEWHERE = "Invalid HTTP request"

_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


class Server(uvicorn.Server):
    """A uvicorn server that tells the application before it waits for it."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app
        _servers.add(self)
        app.state.health.open_connections = lambda: len(self.server_state.connections)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, if need be without the tools that do not end: nothing can stop a thread. Their stacks are shown."""
        seconds = (self.config.timeout_graceful_shutdown or 0) + _LAST_MOMENT
        faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop wanting traffic, end the open streams, then drain."""
        self._app.state.health.ready = False
        self._app.state.stop_streams()
        await super().shutdown(sockets)

    def close_in_child(self) -> None:
        """Close every socket, in a process that a tool has forked: it would keep the port, and clients waiting."""
        transports = [getattr(connection, "transport", None) for connection in self.server_state.connections]
        clients = [transport.get_extra_info("socket") for transport in transports if transport is not None]
        for sock in [*clients, *(sock for server in getattr(self, "servers", ()) for sock in server.sockets)]:
            with suppress(OSError, AttributeError):
                os.close(sock.fileno())


def _close_in_child() -> None:
    for server in _servers:
        server.close_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def make_server(app: Starlette, settings: Settings) -> Server:
    """Return the server, ready to run."""
    proxies = settings.trusted_proxies
    places = Connections(settings.max_connections, settings.max_connections_per_address, exempt=proxies)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=deadline_protocol(
            settings.receive_timeout,
            send_timeout=settings.send_timeout,
            most_unread=settings.max_body_bytes + 65_536,
            places=places,
            note=lambda kind, address, reason: app.state.events.record(kind, address, reason=reason),
        ),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # our own layer reads X-Forwarded-For, and only from trusted proxies
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_not_said_elsewhere)
    return Server(config, app)


def serve(app: Starlette, settings: Settings, sockets: list[socket.socket] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs and exit with 0.

    Args:
        app: what to serve.
        settings: of the server.
        sockets: to accept from; by default one as `HOST` and `PORT` say.
    """
    # uvicorn raises the signal once more after it has drained; an ordered stop is a success all the same.
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _exit)
    server = make_server(app, settings)
    # To look through everything that was loaded takes the collector 40 ms, and nothing of that is ever freed.
    gc.collect()
    gc.freeze()
    server.run(sockets)


def serve_and_reload(serve_again: Callable[[list[socket.socket] | None], None], package: str) -> None:
    """Call `serve_again` in a new process now and after every change of the package's code, until stopped."""
    here = str(Path(str(import_module(package).__file__)).parent)
    config = uvicorn.Config(here, reload=True, reload_dirs=[here], log_config=None)
    ChangeReload(config, target=serve_again, sockets=[]).run()


def _exit(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _is_not_said_elsewhere(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_SAID_ELSEWHERE)
