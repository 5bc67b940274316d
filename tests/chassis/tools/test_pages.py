"""The example tool that reads the web: what it returns, and that it is behind the safe fetcher."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from mcp_chassis.sinks import InvalidInput, SafeFetcher, UpstreamError
from secure_mcp_server.tools import pages
from secure_mcp_server.tools.pages import fetch_page

from ..support.certificates import Authority
from ..support.outside import PUBLIC, Canary, Outside, Server, answers, redirect, reply

pytestmark = pytest.mark.anyio

Publish = Callable[[bytes], Server]


@pytest.fixture
def publish(outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publish]:
    """Publishes an answer at https://www.example.com/."""
    authority = Authority(tmp_path)
    servers: list[Server] = []
    trusting = SafeFetcher(max_bytes=200_000, ssl_context=authority.client_context())
    monkeypatch.setattr(pages, "_fetcher", trusting)

    def start(data: bytes) -> Server:
        servers.append(Server(answers(data), context=authority.server_context("www.example.com")))
        outside.site("www.example.com", PUBLIC, servers[-1])
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/plain", "application/json"])
async def test_a_page_is_returned_as_text(publish: Publish, content_type: str) -> None:
    server = publish(reply("<p>Tēnā koe</p>".encode(), f"Content-Type: {content_type}"))
    assert await fetch_page("https://www.example.com/a") == "<p>Tēnā koe</p>"
    assert server.requests[0].startswith(b"GET /a ")


@pytest.mark.parametrize(
    "data",
    [
        reply(b"\x89PNG", "Content-Type: image/png"),
        reply(b"?"),
        reply(b"gone", "Content-Type: text/plain", status="410 Gone"),
    ],
    ids=["image", "no-type", "gone"],
)
async def test_what_is_no_page_is_said_to_be_none(publish: Publish, data: bytes) -> None:
    publish(data)
    with pytest.raises(ToolError):
        await fetch_page("https://www.example.com/")


async def test_a_page_over_size(publish: Publish) -> None:
    publish(reply(b"x" * 200_001, "Content-Type: text/plain"))
    with pytest.raises(UpstreamError, match="200000 bytes"):
        await fetch_page("https://www.example.com/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "evil.example.org"])
async def test_the_inside_is_out_of_reach(outside: Outside, host: str) -> None:
    outside.name("evil.example.org", "127.0.0.1")
    outside.name("localhost", "127.0.0.1")
    with pytest.raises(InvalidInput):
        await fetch_page(f"https://{host}/")
    assert outside.dialled == []


async def test_the_inside_is_out_of_reach_by_redirect(outside: Outside, publish: Publish, canary: Canary) -> None:
    publish(redirect(f"https://127.0.0.1:{canary.port}/"))
    with pytest.raises(UpstreamError):
        await fetch_page("https://www.example.com/")
    assert canary.connections == 0
    assert outside.dialled == [(PUBLIC, 443)]
