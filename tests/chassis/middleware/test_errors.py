"""The router's own refusals look like those of the layers."""

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mcp_chassis.middleware.responses import exception_handlers

from ..support.asgi import ask, http_scope

pytestmark = pytest.mark.anyio


async def _fails(_: Request) -> Response:
    raise HTTPException(400, "`limit` must be a number.", headers={"X-Hint": "a"})


async def _fine(_: Request) -> Response:
    return PlainTextResponse("fine")


APP = Starlette(routes=[Route("/fails", _fails), Route("/fine", _fine)], exception_handlers=exception_handlers("/mcp"))


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nothing", 404, "There is nothing at this path. The MCP endpoint is /mcp."),
        ("DELETE", "/fine", 405, "This method is not served here. See the Allow header."),
        ("GET", "/fails", 400, "`limit` must be a number."),
    ],
)
async def test_a_refusal_is_a_problem_document(method: str, path: str, status: int, detail: str) -> None:
    answer = await ask(APP, http_scope(path, method=method))
    assert answer.status == status
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json()["detail"] == detail


async def test_headers_of_the_exception_are_kept() -> None:
    allowed = (await ask(APP, http_scope("/fine", method="DELETE"))).header("allow")
    assert allowed is not None
    assert "GET" in allowed
    assert (await ask(APP, http_scope("/fails"))).header("x-hint") == "a"
