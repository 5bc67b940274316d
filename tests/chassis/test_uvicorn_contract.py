"""The parts of uvicorn that the chassis uses beyond its documentation. A failure names the part that has moved."""

import asyncio
import inspect
import logging
import signal
from typing import Any, cast

import pytest

from mcp_chassis.http import uvicorn_parts

HINT = "This version of uvicorn cannot be used before http/protocol.py and http/server.py follow."


class Transport(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Stay open."""

    def pause_reading(self) -> None:
        """Go on."""

    def resume_reading(self) -> None:
        """Go on."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer once the body is there."""
    assert (await receive())["type"] == "http.request"
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def protocol() -> uvicorn_parts.HttpToolsProtocol:
    """One connection of a server that is not running."""
    server = uvicorn_parts.Server(uvicorn_parts.Config(app, log_config=None, lifespan="off"))
    made = uvicorn_parts.HttpToolsProtocol(server.config, server.server_state, {})
    made.connection_made(Transport())
    return made


@pytest.mark.parametrize(
    "method",
    [
        *("connection_made", "data_received", "connection_lost", "pause_writing", "resume_writing", "shutdown"),
        *("on_header", "on_response_complete", "send_400_response"),
    ],
)
def test_the_protocol_calls_what_is_overridden(method: str) -> None:
    part = getattr(uvicorn_parts.HttpToolsProtocol, method, None)
    assert inspect.isfunction(part), f"HttpToolsProtocol.{method} is gone. {HINT}"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "attribute",
    ["app", "client", "cycle", "flow", "loop", "server_state", "timeout_keep_alive_task", "transport"],
)
async def test_a_connection_has_its_parts(protocol: uvicorn_parts.HttpToolsProtocol, attribute: str) -> None:
    assert hasattr(protocol, attribute), f"HttpToolsProtocol has no `{attribute}` any more. {HINT}"


@pytest.mark.anyio
async def test_a_request_is_a_cycle_that_begins_with_its_head(protocol: uvicorn_parts.HttpToolsProtocol) -> None:
    assert protocol.cycle is None, f"HttpToolsProtocol.cycle is not None before the first request. {HINT}"
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    cycle = protocol.cycle
    assert cycle is not None, f"HttpToolsProtocol.cycle is not set once a head has arrived. {HINT}"
    flags = ("disconnected", "keep_alive", "message_event", "response_complete", "response_started")
    missing = [name for name in flags if not hasattr(cycle, name)]
    assert not missing, f"The cycle of a request has no {missing} any more. {HINT}"
    assert not cycle.response_complete
    protocol.data_received(b"a")
    await asyncio.wait_for(asyncio.gather(*protocol.tasks), 5)
    assert cycle.response_complete, f"The cycle does not say that its response is complete. {HINT}"
    assert b"204 No Content" in cast(Transport, protocol.transport).written
    assert protocol.timeout_keep_alive_task is not None, f"The keep-alive time-out is not armed. {HINT}"
    protocol.timeout_keep_alive_task.cancel()


@pytest.mark.anyio
async def test_reading_can_be_paused_and_resumed(protocol: uvicorn_parts.HttpToolsProtocol) -> None:
    for method in ("pause_reading", "resume_reading"):
        assert callable(getattr(protocol.flow, method, None)), f"FlowControl.{method} is gone. {HINT}"


@pytest.mark.anyio
async def test_bad_requests_are_logged_as_the_filter_expects(
    protocol: uvicorn_parts.HttpToolsProtocol, caplog: pytest.LogCaptureFixture
) -> None:
    protocol.logger = logging.getLogger(__name__)  # the server's own one has the filter
    protocol.data_received(b"not HTTP\r\n\r\n")
    messages = [record.getMessage() for record in caplog.records]
    assert any(message.startswith(uvicorn_parts.INVALID_REQUEST_LOG) for message in messages), (
        f"uvicorn logs a bad request as {messages}: change INVALID_REQUEST_LOG."
    )


def test_a_server_has_its_parts() -> None:
    server = uvicorn_parts.Server(uvicorn_parts.Config(app, log_config=None))
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit, f"Server.handle_exit does not stop the server any more. {HINT}"
    assert list(inspect.signature(server.shutdown).parameters) == ["sockets"], f"Server.shutdown changed. {HINT}"
    assert isinstance(server.server_state.connections, set), f"ServerState.connections is no set. {HINT}"
    assert isinstance(server.server_state.default_headers, list), f"ServerState.default_headers is no list. {HINT}"


def test_the_config_takes_a_class_as_protocol() -> None:
    config = uvicorn_parts.Config(app, http=uvicorn_parts.HttpToolsProtocol, log_config=None)
    config.load()
    assert config.http_protocol_class is uvicorn_parts.HttpToolsProtocol, f"Config(http=class) changed. {HINT}"
    assert hasattr(config, "timeout_graceful_shutdown"), f"Config.timeout_graceful_shutdown is gone. {HINT}"


def test_the_reloader_takes_a_target() -> None:
    parameters = set(inspect.signature(uvicorn_parts.ChangeReload).parameters)
    assert {"config", "target", "sockets"} <= parameters, f"ChangeReload changed. {HINT}"
    assert callable(getattr(uvicorn_parts.ChangeReload, "run", None)), f"ChangeReload.run is gone. {HINT}"
