"""Fixtures that every test may use."""

import os
import signal
from collections.abc import Iterator

import pytest

from mcp_chassis.events import untrusted
from mcp_chassis.events.logging import configure_logging
from mcp_chassis.settings import Settings

from .support.outside import Canary, Outside, outside_world
from .support.running import RunningServer, running_server


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the server does."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """A shell script switches Ctrl-C off for what it starts in the background, and so for what the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the developer's own settings away from the tests, and what the examples write out of the checkout."""
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)
    os.environ["SECRETS_DIR"] = os.devnull
    os.environ["EVENTS_FILE"] = "none"  # in this process; a server of its own has a directory of its own
    os.environ["DATABASE"] = str(tmp_path_factory.mktemp("data") / "orders.sqlite")
    configure_logging("INFO", log_format="json")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Some tests log into streams that end with them."""
    yield
    configure_logging("INFO", log_format="json")


@pytest.fixture(scope="module", autouse=True)
def _secrets_of_a_file() -> Iterator[None]:
    """A process keeps its secrets for good, and looks for each in all that it sends; here it has many servers."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_secrets", "_blocks", "_declared"):
            patch.setattr(untrusted, name, set(getattr(untrusted, name)))
        for name in ("_folded", "_joined", "_pieces"):
            patch.setattr(untrusted, name, getattr(untrusted, name))
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """The project's own server with every layer on, shared by the tests of one file."""
    with running_server() as running:
        yield running


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    """The world outside, played on this machine."""
    with outside_world(monkeypatch) as outside:
        yield outside


@pytest.fixture
def canary() -> Iterator[Canary]:
    """A listener on loopback that no request may ever reach."""
    canary = Canary()
    yield canary
    canary.close()
