"""Writing the operator's log: lines that never happened, colours, and secrets."""

import json
import re
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from ..support.running import ServerProcess, server_process
from .wire import ACCEPT, JSON, Header, key_of, post, send

FORGED = '{"event": "request", "logger": "access", "status": 200, "principal": "forged"}'
BREAKS = ["\n", "\r\n", "\r", "\x1b[2K\x1b[1A", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x00", "\x9b2J", "\u202e"]
# The last one is without spaces and quotes: some formatters escape what has those, and nothing else.
INJECTIONS = [*(f"a{line_break}{FORGED}{line_break}" for line_break in BREAKS), "a\x1b[2K\u2028\x85\x9b2J\u202eb"]
PROGRAM = """
import sys
from mcp_chassis import Service, cli, tool

@tool(read_only=True)
def crash(text: str) -> str:
    raise RuntimeError(text) from ValueError(text)

sys.exit(cli.run(Service(module="crashing", tools=(crash,)), ["serve"]))
"""


@pytest.fixture(scope="module", params=["json debug", "console debug", "console info"])
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in each format, after all of the attacks."""
    directory = tmp_path_factory.mktemp("logs")
    program = directory / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    log_format, log_level = request.param.split()
    with server_process(directory, program=[str(program)], log_format=log_format, log_level=log_level) as server:
        for text in INJECTIONS:
            inject(server, text)
        for place in (server.running.key, f"Bearer {server.running.key}"):
            inject(server, place)
        send(server.running, "GET", "/livez", [key_of(server.running), ("X-Request-ID", "the-last")])
        deadline = time.monotonic() + 5
        while "the-last" not in server.written() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield server


def inject(server: ServerProcess, text: str) -> None:
    """Put a text wherever a client can put one."""
    running, raw = server.running, re.sub(rb"[\r\n\x00]", b" ", text.encode())
    send(running, "GET", "/" + quote(text, safe=""))
    send(running, "GET", f"/health?api_key={quote(text, safe='')}")
    send(running, "GET", "/security/events?event=" + quote(text, safe=""), [key_of(running)])
    for name in ("X-Request-ID", "User-Agent", "Referer", "Origin", "X-Forwarded-For", "X-API-Key"):
        headers: list[Header] = [key_of(running), (name, raw)]
        send(running, "GET", "/nothing", headers)
    send(running, "GET", "/health", [("Origin", "https://" + quote(text))])
    send(running, "GET", "/health", host=quote(text))
    for method, params in (
        ("tools/call", {"name": text, "arguments": {}}),
        ("tools/call", {"name": "crash", "arguments": {"text": text}}),
        ("tools/call", {"name": "crash", "arguments": {text: text}}),
        ("resources/read", {"uri": f"about://{text}"}),
        ("resources/read", {"uri": text}),
        ("prompts/get", {"name": text, "arguments": {text: text}}),
        (text, {text: text}),
    ):
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        post(running, json.dumps(message).encode())
    for name in ("Mcp-Name", "Mcp-Method", "MCP-Protocol-Version", "Mcp-Session-Id"):
        modern: list[Header] = [key_of(running), JSON, ACCEPT, (name, raw)]
        send(running, "POST", "/mcp", modern, b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}')


def lines(server: ServerProcess) -> list[str]:
    """Return what a log shipper sees: it splits at line feeds only."""
    return [line for line in server.written().split("\n") if line]


def test_no_input_forges_a_log_line(attacked: ServerProcess) -> None:
    written = lines(attacked)
    assert len(written) > 100, "the attacks left no lines"
    if written[0].startswith("{"):
        assert not [line for line in map(json.loads, written) if line.get("principal") == "forged"]
    else:
        begins = re.compile(r"\d{4}-\d\d-\d\dT\S+Z \[|    \||\d\d:\d\d:\d\d (INFO|WARN|ERROR) ")
        strange = [line for line in written if not begins.match(line)]
        assert strange == []


def test_a_crash_is_logged_whatever_its_text(attacked: ServerProcess) -> None:
    assert attacked.written().count("RuntimeError") >= len(INJECTIONS)


def test_no_input_draws_on_the_operators_terminal(attacked: ServerProcess) -> None:
    """Escape sequences rewrite lines that are already shown; other separators are line ends to some readers."""
    text = attacked.written().replace("\n", "")
    assert [character for character in text if not character.isprintable()] == []


def test_the_key_is_in_no_log_wherever_a_client_puts_it(attacked: ServerProcess) -> None:
    assert attacked.running.key not in attacked.written("stderr")
    assert attacked.written("stdout") == ""


def test_the_key_is_in_no_answer_wherever_a_client_puts_it(attacked: ServerProcess) -> None:
    """The ring of events remembers paths, origins and names: a caller that may read it would learn the key."""
    events = send(attacked.running, "GET", "/security/events?limit=1000", [key_of(attacked.running)])
    assert sum(event["details"].get("count", 1) for event in events.json()["events"]) > 100
    assert attacked.running.key not in events.text
    for path in (f"/{attacked.running.key}", f"/health?api_key={attacked.running.key}"):
        answer = send(attacked.running, "GET", path, [key_of(attacked.running)])
        assert attacked.running.key not in answer.text + str(answer.headers)


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_no_message_is_answered_with_the_key_that_is_in_it(attacked: ServerProcess, version: str) -> None:
    """But for the id of a message, which JSON-RPC repeats."""
    key, meta = attacked.running.key, "io.modelcontextprotocol/"
    envelope = {f"{meta}protocolVersion": version, f"{meta}clientCapabilities": {}}
    messages: list[tuple[str, dict[str, object]]] = [
        (key, {"method": key, "params": {"_meta": envelope}}),
        ("tools/list", {"method": "tools/list", "params": {"_meta": envelope | {f"{meta}protocolVersion": key}}}),
        ("tools/list", {"method": "tools/list", "params": {"_meta": {key: key}, key: key}}),
        ("tools/call", {"method": "tools/call", "params": {"name": key, "arguments": {key: key}, "_meta": envelope}}),
        ("tools/call", {"method": "tools/call", "params": {"name": "crash", "arguments": {key: 1}, "_meta": envelope}}),
        ("resources/read", {"method": "resources/read", "params": {"uri": f"a://{key}", "_meta": envelope}}),
        ("initialize", {"method": "initialize", "params": {"protocolVersion": key, "capabilities": {key: key}}}),
        ("", {"error": {key: key}}),
        ("", {"error": {"code": 1, "message": key, "data": key}}),
        ("", {"result": {key: key}}),
        ("", {"result": {}, "error": {key: key}, key: key}),
    ]
    for method, message in messages:
        for named in (version, key):
            headers: list[Header] = [key_of(attacked.running), JSON, ACCEPT, ("MCP-Protocol-Version", named)]
            headers += [("Mcp-Method", method), ("Mcp-Name", key)]
            body = json.dumps({"jsonrpc": "2.0", "id": 1, **message}).encode()
            answer = send(attacked.running, "POST", "/mcp", headers, body)
            assert key[:20] not in answer.text, (method, answer.status)
            assert answer.status < 500
            assert "pydantic" not in answer.text


def test_a_query_is_not_logged(attacked: ServerProcess) -> None:
    """Clients have put tokens into queries."""
    send(attacked.running, "GET", "/nothing?access_token=another-callers-secret")
    send(attacked.running, "GET", "/livez", [key_of(attacked.running), ("X-Request-ID", "my-query")])
    while "my-query" not in attacked.written():
        time.sleep(0.01)
    assert "another-callers-secret" not in attacked.written()
