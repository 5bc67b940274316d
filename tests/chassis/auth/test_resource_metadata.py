"""Where a client without a token learns where to get one (RFC 9728)."""

from typing import Any

import pytest
from starlette.applications import Starlette

from mcp_chassis.auth.oauth.resource_metadata import ResourceMetadata

from ..support.asgi import ask, http_scope
from ..support.running import running_server

METADATA = ResourceMetadata("https://mcp.example.com", "/mcp", "https://login.example.com/")
PATHS = ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource")


def test_the_url_puts_the_well_known_part_between_host_and_path() -> None:
    assert METADATA.paths == PATHS
    assert METADATA.url == "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"


@pytest.mark.anyio
@pytest.mark.parametrize("path", PATHS)
async def test_both_places_show_the_same_document(path: str) -> None:
    answer = await ask(Starlette(routes=METADATA.routes()), http_scope(path))
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.json() == {
        "resource": "https://mcp.example.com/mcp",
        "authorization_servers": ["https://login.example.com/"],
        "bearer_methods_supported": ["header"],
    }


def test_the_challenge_leads_to_the_document_which_is_public() -> None:
    oauth: dict[str, Any] = {"auth_mode": "oauth", "oauth_issuer": "https://login.example.com"}
    with running_server(**oauth, public_url="https://mcp.example.com") as server:
        refused = server.post({}, headers={})
        assert refused.status_code == 401
        challenge = refused.headers["www-authenticate"]
        assert challenge == f'Bearer realm="mcp", resource_metadata="{METADATA.url}", scope="notes:read orders:read"'
        wrong = server.post({}, headers={"Authorization": "Bearer wrong"}).headers["www-authenticate"]
        assert wrong == f'{challenge}, error="invalid_token"'
        for path in PATHS:
            shown = server.get(path)
            assert shown.status_code == 200
            assert shown.json()["resource"] == "https://mcp.example.com/mcp"
            assert shown.json()["authorization_servers"] == ["https://login.example.com"]


def test_with_an_api_key_there_is_no_such_document() -> None:
    with running_server() as server:
        for path in PATHS:
            assert server.get(path).status_code == 404
        assert server.post({}, headers={}).headers["www-authenticate"] == 'Bearer realm="mcp"'
