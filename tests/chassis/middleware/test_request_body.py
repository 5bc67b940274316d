"""The body of an MCP request: bounded, one media type, strict JSON."""

import json

import pytest

from mcp_chassis.events.log import EventLog
from mcp_chassis.middleware.request_body import RequestBodyLayer

from ..support.asgi import Answer, Endpoint, Headers, ask, http_scope

pytestmark = pytest.mark.anyio

JSON = (b"content-type", b"application/json")
MESSAGE = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'


ERRORS = [b"{}", b'{"SECRET": 1}', b'{"code": "1", "message": "no"}', b'{"code": 1}', b'{"code": 1.5, "message": "no"}']
VERSION_OF_KEY = b"io.modelcontextprotocol/protocolVersion", b"k" * 32


class Setup:
    """The layer with a limit of 1,000 bytes."""

    def __init__(self) -> None:
        self.inner, self.events = Endpoint(), EventLog()
        self.layer = RequestBodyLayer(self.inner, events=self.events, endpoint="/mcp", max_bytes=1000)

    async def post(
        self,
        *chunks: bytes,
        headers: Headers = (JSON,),
        path: str = "/mcp",
        method: str = "POST",
        hang_up: bool = False,
    ) -> Answer:
        scope = http_scope(path, method=method, headers=headers)
        return await ask(self.layer, scope, list(chunks), hang_up=hang_up)


@pytest.mark.parametrize("chunks", [[MESSAGE], [MESSAGE[:7], MESSAGE[7:]], [b"", MESSAGE, b""]])
async def test_a_message_goes_on_byte_for_byte(chunks: list[bytes]) -> None:
    setup = Setup()
    assert (await setup.post(*chunks)).status == 200
    assert setup.inner.bodies == [MESSAGE]
    assert setup.events.total == 0


@pytest.mark.parametrize(
    "message",
    [
        b'{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        b'{"jsonrpc": "2.0", "id": "a", "method": "ping", "params": {"a": 1} }',
        b'{"jsonrpc": "2.0", "id": 1, "result": {} }',
        b'{"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"} }',
    ],
)
async def test_requests_notifications_and_responses_are_messages(message: bytes) -> None:
    assert (await Setup().post(message)).status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
        b"application/json;",
    ],
)
async def test_json_in_utf_8_is_taken(content_type: bytes) -> None:
    assert (await Setup().post(MESSAGE, headers=[(b"content-type", content_type)])).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [JSON, JSON],
        [(b"content-type", b"")],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/jsonx")],
        [(b"content-type", b"application/json, text/plain")],
        [(b"content-type", b"application/json; charset=utf-16")],
        [(b"content-type", b"application/json; charset=utf-8; charset=utf-16")],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [JSON, (b"content-encoding", b"gzip")],
        [JSON, (b"content-encoding", b"identity")],
        [JSON, (b"content-encoding", b"identity"), (b"content-encoding", b"br")],
    ],
    ids=repr,
)
async def test_everything_else_is_an_unsupported_media_type(headers: Headers) -> None:
    setup = Setup()
    answer = await setup.post(MESSAGE, headers=headers)
    assert answer.status == 415
    assert setup.inner.calls == 0


async def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    body = b'"' + b"a" * 998 + b'"'
    assert (await Setup().post(body)).status == 400, "large enough, but not an object"
    assert (await Setup().post(body[:1] + body)).status == 413


async def test_a_declared_length_is_refused_without_reading() -> None:
    setup = Setup()
    for length in (b"1001", b"9" * 5000):
        answer = await setup.post(headers=[JSON, (b"content-length", length)])
        assert answer.status == 413
        assert answer.json()["detail"] == "The body is larger than 1000 bytes."


async def test_a_body_that_grows_beyond_the_limit_is_refused_whatever_was_declared() -> None:
    setup = Setup()
    answer = await setup.post(*[b"a" * 100] * 11, headers=[JSON, (b"content-length", b"5")])
    assert answer.status == 413
    assert setup.inner.calls == 0


async def test_half_a_message_is_not_acted_upon() -> None:
    setup = Setup()
    answer = await setup.post(MESSAGE, b"", hang_up=True)
    assert answer.status == 0, "no client is there to read an answer"
    assert setup.inner.calls == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b'{"a": 1, "a": 2}', -32700),
        (b'{"a": NaN}', -32700),
        (b"[" * 500, -32700),
        (b"[]", -32600),
        (b"[" + MESSAGE + b"]", -32600),
        (b'"text"', -32600),
        (b"null", -32600),
        (b"{}", -32600),
        (b'{"jsonrpc": "1.0", "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "method": 7}', -32600),
        (b'{"jsonrpc": "2.0", "method": "ping", "id": null}', -32600),
        (b'{"jsonrpc": "2.0", "method": "ping", "id": true}', -32600),
        (b'{"jsonrpc": "2.0", "method": "ping", "id": 1.5}', -32600),
        (b'{"jsonrpc": "2.0", "method": "ping", "params": [1]}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1}', -32600),
        *((b'{"jsonrpc": "2.0", "id": 1, "error": %b}' % error, -32600) for error in ERRORS),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {"%b": "%b"}}}' % VERSION_OF_KEY, -32600),
    ],
)
async def test_what_is_not_one_strict_json_object_is_a_json_rpc_error(body: bytes, code: int) -> None:
    setup = Setup()
    answer = await setup.post(body)
    assert answer.status == 400
    assert answer.header("content-type") == "application/json"
    document = json.loads(answer.body)
    assert (document["jsonrpc"], document["id"], document["error"]["code"]) == ("2.0", None, code)
    assert setup.inner.calls == 0
    assert setup.events.recent()[0]["event"] == "input_validation_failed"


@pytest.mark.parametrize(("method", "path"), [("GET", "/mcp"), ("POST", "/other")])
async def test_other_requests_are_not_touched(method: str, path: str) -> None:
    setup = Setup()
    assert (await ask(setup.layer, http_scope(path, method=method), [b"not JSON"])).status == 200
    assert setup.inner.bodies == [b"not JSON"]


async def test_other_scopes_pass() -> None:
    setup = Setup()
    await ask(setup.layer, {"type": "lifespan"})
    assert setup.inner.calls == 1
