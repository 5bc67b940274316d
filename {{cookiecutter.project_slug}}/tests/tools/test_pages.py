"""The example tool that reads the web: what it returns. That it stays outside is tested with the chassis."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from mcp_chassis.sinks import InvalidInput, SafeFetcher

from {{ cookiecutter.package_name }}.tools import pages

pytestmark = pytest.mark.anyio


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, content_type = (410, "text/plain") if self.path == "/gone" else (200, "text/html")
        self.send_response(status)
        self.send_header("Content-Type", "image/png" if self.path == "/image" else content_type)
        self.end_headers()
        self.wfile.write("<p>Tēnā koe</p>".encode())

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server on loopback, which the fetcher is allowed to reach in these tests only."""
    with HTTPServer(("127.0.0.1", 0), _Pages) as web:
        threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        port = web.server_address[1]
        local = SafeFetcher(schemes=("http",), ports=(port,), networks=(ip_network("127.0.0.1"),))
        monkeypatch.setattr(pages, "_fetcher", local)
        yield f"http://127.0.0.1:{port}"
        web.shutdown()


async def test_a_page_is_returned_as_text(site: str) -> None:
    assert await pages.fetch_page(f"{site}/page") == "<p>Tēnā koe</p>"


@pytest.mark.parametrize("path", ["/gone", "/image"])
async def test_anything_but_a_text_page_is_an_error(site: str, path: str) -> None:
    with pytest.raises(ToolError):
        await pages.fetch_page(site + path)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]"])
async def test_an_internal_address_is_rejected(host: str) -> None:
    with pytest.raises(InvalidInput):
        await pages.fetch_page(f"https://{host}/")
