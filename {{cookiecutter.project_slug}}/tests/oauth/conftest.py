"""One authorization server for all tests here."""

from collections.abc import Iterator

import pytest

from .running import AuthorizationServer, running_authorization_server


@pytest.fixture(scope="session")
def authorization_server(request: pytest.FixtureRequest) -> Iterator[AuthorizationServer]:
    """A real authorization server, installed once into pytest's cache."""
    cache = request.config.cache
    assert cache is not None, "pytest runs without its cache"
    with running_authorization_server(cache.mkdir("authorization-server")) as running:
        yield running
