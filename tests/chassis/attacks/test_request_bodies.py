"""Bodies that two readers would read differently, that cost more than they weigh, or that never end."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_chassis.http.strict_json import InvalidJson, parse_json

from ..support.running import RunningServer, running_server
from .wire import ACCEPT, JSON, Header, key_of, post, request_text, send

# What is JSON, almost JSON, and JSON to some.
DOCUMENTS = st.one_of(
    st.integers(-(10**45), 10**45).map(lambda number: str(number).encode()),
    st.text().map(lambda text: json.dumps(text).encode()),
    st.text().map(lambda text: json.dumps(text, ensure_ascii=False).encode()),
    st.lists(
        st.sampled_from([*'"[]{}:,', "\\u", "d800", "dc00", "0", "1", "e9", "NaN", "null", '"id":2', "\ufeff", "ä"]),
        max_size=8,
    ).map(lambda pieces: "".join(pieces).encode()),
    st.binary(max_size=12),
)
PING = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
LARGEST = 2_000_000

NOT_STRICT_JSON = {
    "empty": b"",
    "blank": b"  \n",
    "half": PING[:-1],
    "two documents": PING + PING,
    "UTF-16": PING.decode().encode("utf-16"),
    "UTF-16 without a mark": PING.decode().encode("utf-16-le"),
    "UTF-32": PING.decode().encode("utf-32"),
    "byte order mark": b"\xef\xbb\xbf" + PING,
    "invalid UTF-8": PING.replace(b"ping", b"p\xffing"),
    "overlong UTF-8": PING.replace(b"ping", b"\xc0\xafing"),
    "surrogate in UTF-8": PING.replace(b"ping", b"\xed\xa0\x80"),
    "duplicate member": b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "method": "tools/list"}',
    "duplicate by escape": b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "m\\u0065thod": "tools/list"}',
    "duplicate deep down": b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": [{"b": 1, "b": 2}]}}',
    "NaN": b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}',
    "Infinity": b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": -Infinity}}',
    "1e999": b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": 1e999}}',
    "lone surrogate": b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": "\\ud800"}}',
    "lone surrogate as a name": b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"\\udfff": 1}}',
    "comment": PING + b" // a",
    "single quotes": PING.replace(b'"', b"'"),
    "trailing comma": PING[:-1] + b",}",
    "control character": PING.replace(b"ping", b"pi\nng"),
    "depth 1,000": b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": ' + b'{"a":' * 1000 + b"1" + b"}" * 1001,
    "depth 100,000": b"[" * 100_000,
    "5,000 digits": b'{"jsonrpc": "2.0", "id": ' + b"9" * 5000 + b', "method": "ping"}',
    "5,000 digits of a fraction": b'{"jsonrpc": "2.0", "id": 1.' + b"1" * 5000 + b', "method": "ping"}',
    "a million digits": b"9" * 1_000_000,
    "a string of quotes that never ends": b"[" + b"[]," * 80 + b'"' + b'\\"' * 900_000,
    "brackets in a string that never ends": b'"' + b"[" * 900_000,
}
NOT_ONE_MESSAGE = {
    "batch": b"[" + PING + b"]",
    "empty batch": b"[]",
    "string": b'"tools/list"',
    "number": b"1",
    "null": b"null",
    "true": b"true",
}
NOT_JSON_RPC = {
    "empty object": b"{}",
    "without a version": b'{"id": 1, "method": "ping"}',
    "another version": b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}',
    "method is a number": b'{"jsonrpc": "2.0", "id": 1, "method": 7}',
    "params is a list": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ["do-not-echo"]}',
    "params is a string": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": "do-not-echo"}',
    "neither question nor answer": b'{"jsonrpc": "2.0", "id": 1, "secret": "do-not-echo"}',
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server that takes bodies of up to two megabytes."""
    with running_server(max_body_bytes=LARGEST) as running:
        yield running


@pytest.mark.parametrize("flaw", NOT_STRICT_JSON)
def test_a_body_that_is_not_strict_json_is_refused_quickly(server: RunningServer, flaw: str) -> None:
    started = time.monotonic()
    answer = post(server, NOT_STRICT_JSON[flaw])
    assert time.monotonic() - started < 5
    assert answer.status == 400
    assert answer.json()["error"]["code"] == -32700
    assert answer.json()["id"] is None


@pytest.mark.parametrize("flaw", NOT_ONE_MESSAGE)
def test_a_body_that_is_not_one_message_is_refused(server: RunningServer, flaw: str) -> None:
    answer = post(server, NOT_ONE_MESSAGE[flaw])
    assert (answer.status, answer.json()["error"]["code"]) == (400, -32600)


@pytest.mark.parametrize("flaw", NOT_JSON_RPC)
def test_a_message_that_is_not_json_rpc_is_refused_without_an_echo(server: RunningServer, flaw: str) -> None:
    """The SDK answers with its validator's report: the values, the model's name and a link with a version number."""
    answer = post(server, NOT_JSON_RPC[flaw])
    assert answer.status == 400
    assert not any(word in answer.text for word in ("do-not-echo", "pydantic", "input_value", "JSONRPCRequest"))
    assert answer.json()["error"]["code"] == -32600


def test_a_refused_body_leaves_an_event_without_its_content(server: RunningServer) -> None:
    post(server, b'{"a": "do-not-echo", "a": "do-not-echo"}')
    event = server.events("input_validation_failed")[0]
    assert event["identifier"] in {"key:default", "127.0.0.1"}
    assert "do-not-echo" not in json.dumps(event)


@pytest.mark.parametrize(
    "types",
    [
        [],
        ["text/plain"],
        ["application/jsonx"],
        ["application/json-seq"],
        ["application/json;charset=utf-16"],
        ["application/json; charset=utf-7"],
        ["application/json, text/plain"],
        ["application/json\x0btext/plain"],
        ["application/x-www-form-urlencoded"],
        ["multipart/form-data; boundary=a"],
        ["application/json", "text/plain"],
        ["application/json", "application/json"],
        [""],
    ],
)
def test_a_body_of_another_media_type_is_refused(server: RunningServer, types: list[str]) -> None:
    """A page may send `text/plain` across origins without asking first; JSON it may not."""
    answer = post(server, PING, [("Content-Type", value) for value in types])
    assert answer.status in {400, 415}, answer.text
    assert "result" not in answer.text


def test_the_media_type_of_json_is_accepted_in_every_spelling(server: RunningServer) -> None:
    for value in ("application/json", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'):
        assert post(server, PING, [("Content-Type", value)]).status == 200


@pytest.mark.parametrize("coding", ["identity", "", "gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
def test_a_compressed_body_is_refused_before_anything_inflates(server: RunningServer, coding: str) -> None:
    assert post(server, PING, [JSON, ("Content-Encoding", coding)]).status == 415


def open_request(server: RunningServer, *headers: str) -> bytes:
    """Return the head of a POST with the key, whose body is still to come."""
    credentials = f"Authorization: Bearer {server.key}"
    accept = "Accept: application/json, text/event-stream"
    return request_text(server, "POST /mcp HTTP/1.1", [credentials, accept, "Content-Type: application/json", *headers])


def first_answer(server: RunningServer, data: bytes) -> bytes:
    """Send bytes, not all that were promised, and return the beginning of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(data)
        return connection.recv(65536)


@pytest.mark.parametrize("length", [LARGEST + 1, 10**12, 10**18 - 1])
def test_a_body_announced_too_large_is_refused_unread(server: RunningServer, length: int) -> None:
    for expect in ((), ("Expect: 100-continue",)):
        answer = first_answer(server, open_request(server, f"Content-Length: {length}", *expect))
        assert answer.startswith(b"HTTP/1.1 413 "), answer


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large() -> None:
    with running_server(max_body_bytes=1024) as small:
        endless = b"200\r\n" + b" " * 512 + b"\r\n"
        answer = first_answer(small, open_request(small, "Transfer-Encoding: chunked") + endless * 3)
        assert answer.startswith(b"HTTP/1.1 413 "), answer


def test_a_body_is_not_read_from_a_stranger(server: RunningServer) -> None:
    head = request_text(server, "POST /mcp HTTP/1.1", ["Content-Type: application/json", "Content-Length: 1000000000"])
    assert first_answer(server, head).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"])
def test_the_mcp_endpoint_takes_nothing_but_post(server: RunningServer, method: str) -> None:
    """A stateless server has no stream to hold open for GET and no session to end by DELETE."""
    answer = send(server, method, "/mcp", [key_of(server), ACCEPT, JSON])
    assert answer.status == 405
    assert answer.header("Allow") == "POST"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS)
def test_what_was_judged_is_what_the_sdk_gets(server: RunningServer, document: bytes) -> None:
    """An id is repeated by the SDK, so it shows what the SDK has read: the same as any strict reader, or a refusal."""
    body = b'{"jsonrpc": "2.0", "method": "ping", "id": ' + document + b"}"
    answer = post(server, body)
    try:
        expected = parse_json(body)["id"]
    except InvalidJson:
        assert (answer.status, answer.json()["error"]["code"]) == (400, -32700)
        return
    if type(expected) in {int, str}:
        assert (answer.status, answer.json()) == (200, {"jsonrpc": "2.0", "id": expected, "result": {}})
    else:
        assert (answer.status, answer.json()["error"]["code"]) == (400, -32600)


def test_strange_messages_never_make_a_5xx(server: RunningServer) -> None:
    values: list[Any] = [None, True, 0, -1, 2**70, 1.5, "", "\u0000", "x" * 10_000, [], {}, {"a": {"b": []}}]
    for method in ("tools/call", "tools/list", "prompts/get", "resources/read", "initialize", "nothing/there", ""):
        for value in values:
            for params in ({"name": value, "arguments": value}, {"uri": value}, {"_meta": value}):
                message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                assert post(server, json.dumps(message).encode()).status < 500, message
    for value in values:
        message = {"jsonrpc": "2.0", "id": value, "method": "ping"}
        assert post(server, json.dumps(message).encode()).status < 500, message


def test_strange_protocol_headers_never_make_a_5xx(server: RunningServer) -> None:
    names = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "Last-Event-ID", "Accept")
    for name in names:
        for value in ("", "2026-07-28", "9999-99-99", "../../etc/passwd", "x" * 5000, "ключ".encode(), b"\xff\xfe"):
            header: Header = (name, value)
            assert send(server, "POST", "/mcp", [key_of(server), JSON, header], PING).status < 500, header
