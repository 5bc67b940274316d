"""Refusals: problem documents (RFC 9457), the same every time."""

import pytest

from mcp_chassis.middleware.responses import Refusal, json_rpc_error

from ..support.asgi import ask

pytestmark = pytest.mark.anyio


async def test_a_refusal_is_a_problem_document_with_the_request_id() -> None:
    answer = await ask(Refusal(403, "No."), client="192.0.2.1")
    assert answer.status == 403
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.json() == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "No.",
        "error": "access_denied",
        "error_description": "No.",
        "request_id": "request-1",
    }


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, "invalid_request"), (401, "invalid_token"), (404, "invalid_request"), (429, "too_many_requests")],
)
async def test_a_refusal_is_an_oauth_error_that_makes_no_client_delete_its_registration(
    status: int, error: str
) -> None:
    """The TypeScript SDK deletes it on `invalid_client` and `unauthorized_client`, and tokens on `invalid_grant`."""
    document = (await ask(Refusal(status, "No."))).json()
    assert (document["error"], document["error_description"]) == (error, "No.")
    assert (await ask(Refusal(status, "No.", error="insufficient_scope"))).json()["error"] == "insufficient_scope"


async def test_outside_of_a_request_there_is_no_id() -> None:
    assert "request_id" not in (await ask(Refusal(403, "No."))).json()


async def test_further_headers() -> None:
    answer = await ask(Refusal(413, "No.", headers=[(b"retry-after", b"1"), (b"connection", b"close")]))
    assert answer.header("retry-after") == "1"
    assert answer.header("connection") == "close"
    assert (await ask(Refusal(413, "No."))).header("connection") is None


async def test_json_is_sent_whole() -> None:
    answer = await ask(json_rpc_error(400, {"message": "ü"}, message_id="7", headers={"x-hint": "a"}))
    assert answer.status == 400
    assert answer.json() == {"jsonrpc": "2.0", "id": "7", "error": {"message": "ü"}}
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-hint") == "a"
    assert answer.header("content-length") == str(len(answer.body))
