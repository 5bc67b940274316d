"""compose.egress.yaml, brought up: the servers leave only through the proxy, to the hosts that it knows."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine
from proxies import free_port, wait_until

from .conftest import WITH_ROOT
from .test_compose import Stack, copied

pytestmark = [pytest.mark.slow, pytest.mark.anyio, WITH_ROOT]

INDEX = "pypi" + ".org"
ALLOWED, OTHER = f"https://{INDEX}/simple/six/", "https://files.python" + "hosted.org/"
"""Packages come from there, so that these tests need no other host."""


@pytest.fixture(scope="module")
def stack(
    podman: Engine, project: Path, image: str, key: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    assert image
    port = free_port()
    directory = copied(project, tmp_path_factory.mktemp("egress"), port)
    (directory / "deploy/egress/allowed-hosts").write_text(f"{INDEX}\n", encoding="utf-8")
    podman("build", "--pull-never", "--tag", "localhost/secure-mcp-server-egress:0.1.0", directory / "deploy/egress")
    made = Stack(podman, directory, ("compose.yaml", "compose.egress.yaml"), port, key)
    try:
        made.compose("up", "--detach", "--no-build")
        wait_until(made.is_up, seconds=60)
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "1")


async def test_fetcher_leaves_through_the_proxy_to_an_allowed_host(stack: Stack) -> None:
    assert "six" in await stack.call("fetch_page", url=ALLOWED)
    assert INDEX in stack.logs("egress")


@pytest.mark.parametrize("url", [OTHER, f"https://{INDEX}.example.com/", f"https://not{INDEX}/"])
async def test_proxy_refuses_any_other_host(stack: Stack, url: str) -> None:
    with pytest.raises(AssertionError, match="is_error"):
        await stack.call("fetch_page", url=url)
    assert "filtered" in stack.logs("egress")


@pytest.mark.parametrize("port", [22, 80, 8080])
def test_proxy_opens_no_tunnel_to_another_port(stack: Stack, port: int) -> None:
    text = (
        "import socket; s = socket.create_connection(('egress', 8888), 5);"
        f"s.sendall(b'CONNECT {INDEX}:{port} HTTP/1.1\\r\\nHost: {INDEX}\\r\\n\\r\\n');"
        "raise SystemExit(b' 200 ' in s.recv(100))"
    )
    stack.podman("exec", stack.name("server-1"), "python", "-c", text)


def test_server_has_no_other_way_out(stack: Stack) -> None:
    """A listener of this machine, and the allowed host itself: the proxy gets there, a server does not."""
    gateway = stack.addresses("caddy")["edge"].rpartition(".")[0] + ".1"
    allowed = socket.gethostbyname(INDEX)
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        assert stack.connects("caddy", gateway, port)
        assert stack.connects("caddy", allowed, 443)
        for service in ("server-1", "server-2"):
            assert not stack.connects(service, gateway, port)
            assert not stack.connects(service, allowed, 443)
