"""One authorization server for all tests here."""

from collections.abc import Iterator

import pytest

from ..support.node import find_node
from .running import AuthorizationServer, running_authorization_server


@pytest.fixture(scope="session")
def authorization_server(request: pytest.FixtureRequest) -> Iterator[AuthorizationServer]:
    """A real authorization server, installed once into pytest's cache."""
    with running_authorization_server(find_node(request.config)) as running:
        yield running
