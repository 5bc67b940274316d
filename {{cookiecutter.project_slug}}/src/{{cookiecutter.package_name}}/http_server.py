"""Runs the application on uvicorn, with the options that a server on a network needs, and stops it in order."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import ChangeReload

from .http_protocol import deadline_protocol
from .settings import Settings

_MAX_HEADER_BYTES = 16_384


class Server(uvicorn.Server):
    """A uvicorn server that tells the application before it waits for it."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app
        app.state.health.open_connections = lambda: len(self.server_state.connections)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop wanting traffic, end the open streams, then drain."""
        self._app.state.health.ready = False
        self._app.state.stop_streams()
        await super().shutdown(sockets)


def make_server(app: Starlette, settings: Settings) -> Server:
    """Return the server, ready to run."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=deadline_protocol(settings.receive_timeout),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # our own layer reads X-Forwarded-For, and only from trusted proxies
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    return Server(config, app)


def serve(app: Starlette, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs and exit with 0."""
    # uvicorn raises the signal once more after it has drained; an ordered stop is a success all the same.
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _exit)
    make_server(app, settings).run()


def serve_and_reload(serve_again: Callable[[list[socket.socket] | None], None]) -> None:
    """Call `serve_again` in a new process now and after every change of this package's code, until stopped."""
    here = str(Path(__file__).parent)
    config = uvicorn.Config(here, reload=True, reload_dirs=[here], log_config=None)
    ChangeReload(config, target=serve_again, sockets=[]).run()


def _exit(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(0)
