"""Runs the application on uvicorn, with the options that a server on a network needs, and stops it in order."""

import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, cast

import structlog
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from ..events.log import EventLog
from ..settings import Settings, SettingsError, cannot_listen
from . import uvicorn_parts as uvicorn
from .connections import Connections
from .protocol import deadline_protocol

log = structlog.get_logger("server")

_STDERR = 2
_CLEANUP_SECONDS = 2.0  # after SHUTDOWN_TIMEOUT, for what was cancelled


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket to accept connections from, on `::` for IPv4 as well. `SettingsError`: the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)
    except OSError as error:
        raise cannot_listen("PORT", host, port, error) from None
    # Accepted connections inherit it. asyncio sets it only on sockets that it has made itself, and without it an answer
    # waits up to 40 ms for the client to confirm its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class Application(Starlette):
    """The application, with what the server that runs it needs to know."""

    def __init__(
        self, *, connections: Connections, events: EventLog, begin_shutdown: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(**options)
        self.router.redirect_slashes = False  # a redirect would be built from the Host header
        self.connections, self.events = connections, events
        self.begin_shutdown = begin_shutdown  # called before open requests are waited for

    def build_middleware_stack(self) -> ASGIApp:
        """Return the layers without Starlette's outermost one: the request context answers what fails."""
        return cast(ServerErrorMiddleware, super().build_middleware_stack()).app


class Server(uvicorn.Server):
    """A uvicorn server that opens what the application needs, and notifies it when it begins to stop."""

    def __init__(self, config: uvicorn.Config, app: Application, url: str) -> None:
        super().__init__(config)
        self._app = app
        self._url = url
        _servers.add(self)

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        # Not by the lifespan messages of ASGI: of an error in there only the text of its traceback would arrive here.
        failure = None
        async with self._app.router.lifespan_context(self._app):
            try:
                await super()._serve(sockets)
            except SettingsError as error:  # which the SDK's task group would wrap
                failure = error
        if failure is not None:
            raise failure

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop. Threads of tools that do not end are abandoned, as nothing can stop them, and their stacks shown."""
        seconds = (self.config.timeout_graceful_shutdown or 0) + _CLEANUP_SECONDS
        faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and log the URL that clients use."""
        if sockets is None and self.config.host == "::":  # asyncio would serve IPv6 alone
            sockets = [listening_socket(self.config.host, self.config.port)]
        try:
            await super().startup(sockets)
        except SystemExit as end:
            if not isinstance(end.__context__, OSError):
                raise
            raise cannot_listen("PORT", self.config.host, self.config.port, end.__context__) from None
        log.info("the MCP endpoint is ready", url=self._url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell the application, then drain."""
        self._app.begin_shutdown()
        await super().shutdown(sockets)


_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


def _close_in_child() -> None:
    """Close every socket in a process that a tool has forked: it would keep the port, and clients waiting."""
    for server in _servers:
        transports = [getattr(connection, "transport", None) for connection in server.server_state.connections]
        clients = [transport.get_extra_info("socket") for transport in transports if transport is not None]
        for sock in [*clients, *(sock for each in getattr(server, "servers", ()) for sock in each.sockets)]:
            with suppress(OSError, AttributeError):
                os.close(sock.fileno())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def make_server(app: Application, settings: Settings) -> Server:
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=deadline_protocol(
            settings.receive_timeout,
            send_timeout=settings.send_timeout,
            max_unread_bytes=settings.max_body_bytes + 65_536,
            limits=app.connections,
            events=app.events,
        ),
        ws="none",
        lifespan="off",
        log_config=None,
        workers=1,  # a platform may set WEB_CONCURRENCY, which uvicorn would read
        access_log=False,
        server_header=False,
        proxy_headers=False,  # our own layer reads X-Forwarded-For, and only from trusted proxies
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_event)
    return Server(config, app, settings.resource_url)


def serve(app: Application, settings: Settings, sockets: list[socket.socket] | None = None) -> None:
    """Serve, by default at `HOST` and `PORT`, until SIGTERM or SIGINT; then finish what runs and exit with 0."""
    # uvicorn raises the signal once more after it has drained; an ordered stop is a success all the same.
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: sys.exit(0))
    server = make_server(app, settings)
    # Every collection would look through all loaded modules, which takes 40 ms and never frees anything.
    gc.collect()
    gc.freeze()
    server.run(sockets)


def _is_no_event(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's is wanted: a bad request is a security event, a taken port a `SettingsError`."""
    return not (isinstance(record.msg, OSError) or str(record.msg).startswith(uvicorn.INVALID_REQUEST_LOG))
