"""Fixtures: the server with your tools, on a free port with every layer on."""

import os
from collections.abc import Iterator

import pytest

from mcp_chassis.testing.running import RunningServer, running_server

from {{ cookiecutter.package_name }}.server import SERVER


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the server does."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> None:
    """Keep the settings of the shell that runs the tests away from them."""
    for name in SERVER.settings.model_fields:
        os.environ.pop(name.upper(), None)
    os.environ["SECRETS_DIR"] = os.devnull


@pytest.fixture(scope="session", autouse=True)
def _own_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tools write out of the project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Your server, shared by the tests of one file. `server.call("tool", {...})` sends one call with the key."""
    with running_server(SERVER) as running:
        yield running
