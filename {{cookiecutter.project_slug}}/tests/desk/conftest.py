"""The order desk with a database of its own, and a stock service that runs in these tests."""

import json
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mcp_chassis.settings import load_settings

from {{ cookiecutter.package_name }}.desk import Desk, open_desk
from {{ cookiecutter.package_name }}.settings import Settings


class _StockService(BaseHTTPRequestHandler):
    """Has seven pieces of every item but TE-404."""

    def do_GET(self) -> None:
        item = self.path.removeprefix("/items/")
        body = json.dumps({"item": item, "available": 7}).encode()
        self.send_response(404 if item == "TE-404" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture(scope="session")
def stock_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _StockService) as service:
        Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{service.server_address[1]}"
        service.shutdown()


@pytest.fixture
async def desk(tmp_path: Path, stock_url: str) -> AsyncIterator[Desk]:
    """What the tools share, opened as the server opens it."""
    own = {"database": tmp_path / "orders.sqlite", "stock_url": stock_url}
    settings = load_settings(Settings, _env_file=None, enable_auth=False, **own)
    async with open_desk(settings) as opened:
        yield opened
