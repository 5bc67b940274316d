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
        "request_id": "request-1",
    }


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
