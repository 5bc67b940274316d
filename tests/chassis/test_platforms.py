"""Servers with the variables that hosting platforms set: they listen on the platform's port, and the probes answer."""

from pathlib import Path

import httpx2
import pytest

from .support.documents import DOCUMENTS
from .support.running import server_process

PLATFORMS = {
    "Cloud Run": {"K_SERVICE": "notes", "K_REVISION": "notes-00001-abc", "K_CONFIGURATION": "notes"},
    "Heroku": {"DYNO": "web.1", "WEB_CONCURRENCY": "2"},
    "Render": {
        "RENDER": "true",
        "RENDER_EXTERNAL_URL": "https://notes.onrender.com",
        "RENDER_EXTERNAL_HOSTNAME": "notes.onrender.com",
        "RENDER_SERVICE_NAME": "notes",
        "WEB_CONCURRENCY": "auto",
    },
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_server_listens_where_the_platform_says(platform: str, tmp_path: Path) -> None:
    """`server_process` sets PORT as the platform does; the probes come with the address of the container."""
    settings = {"host": "0.0.0.0", "public_url": "https://notes.example.com", "events_file": "none"}
    with server_process(tmp_path, **settings, **PLATFORMS[platform]) as server:
        for path in ("/livez", "/readyz"):
            probed = httpx2.get(server.running.url + path, headers={"Host": "10.1.2.3"}, trust_env=False)
            assert probed.status_code == 200
        assert server.running.get("/health", headers={"Host": "notes.example.com"}).status_code == 200
        assert "Traceback" not in server.written()


def test_the_document_names_every_variable() -> None:
    document = (DOCUMENTS / "platforms.md").read_text(encoding="utf-8")
    for name in {"PORT"} | {name for variables in PLATFORMS.values() for name in variables}:
        assert f"`{name}`" in document
