"""What a client sends comes out of the server in no log, event, trail, metric or trace: a canary in every field.

Each field of a message gets a text that exists nowhere else. Afterwards every output is searched for every piece of
eight characters of it: a value that was cut, or stands in the middle of something, has leaked as well.
"""

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ..support.callers import headers as headers_of
from ..support.callers import message
from ..support.running import ServerProcess, environment, server_process, wait_until
from .wire import JSON, Header, key_of, post, send

PIECE = 8
MODES = ("legacy", "auto")
SHOWN = {"path", "host", "origin", "request id"}
"""What an operator has to see as it was sent, after secrets have been taken out of it. Nothing else is."""
HEADERS = (
    *("Cookie", "User-Agent", "Referer", "X-API-Key", "X-Forwarded-For", "Forwarded", "Mcp-Session-Id", "Mcp-Name"),
    *("Mcp-Method", "MCP-Protocol-Version", "Last-Event-ID", "Accept", "Accept-Language", "Content-Type", "X-Made-Up"),
    *("tracestate", "baggage", "Proxy-Authorization", "Mcp-Param-text"),
)
PROGRAM = """
import sys
import threading
from typing import Annotated

from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from pydantic import AfterValidator

from mcp_chassis import Service, cli, prompt, resource, tool
from mcp_chassis.events import sampling
from mcp_chassis.sinks.errors import InvalidInput

sampling.MAX_SINGLE = sampling._MAX_CAUSES = sampling._MAX_GROUPS = 1_000_000  # nothing hides behind a count

def refuse(text):
    raise ValueError(f"{text} will not do")

@tool(read_only=True)
def echo(text: str) -> str:
    return text

@tool(read_only=True)
def crash(text: str) -> str:
    try:
        raise KeyError(text)
    except KeyError as error:
        error.add_note(text)
        raise ExceptionGroup(text, [RuntimeError(text), OSError(2, text, text)]) from error

@tool(read_only=True)
def fail(text: str) -> str:
    threading.Thread(target=refuse, args=(text,)).start()
    raise ToolError(text)

@tool(read_only=True)
def reject(text: str) -> str:
    raise InvalidInput(f"{text} will not do")

@tool(read_only=True)
def validated(text: Annotated[str, AfterValidator(refuse)]) -> str:
    return text

@tool(read_only=True, timeout=0.2)
async def late(text: str) -> str:
    import asyncio
    asyncio.get_running_loop().create_task(dropped(text))
    await asyncio.sleep(5)

async def dropped(text):
    raise RuntimeError(text)

@resource("echo://{text}")
def echoed(text: str) -> str:
    return text

@resource("crash://{text}")
def crashed(text: str) -> str:
    raise RuntimeError(text)

@resource("fail://{text}")
def failed(text: str) -> str:
    raise ResourceError(text)

@resource("reject://{text}")
def rejected(text: str) -> str:
    raise InvalidInput(text)

@prompt()
def introduce(text: str) -> str:
    raise RuntimeError(text)

tools = (echo, crash, fail, reject, validated, late)
resources = (echoed, crashed, failed, rejected)
service = Service(module="canaries", tools=tools, resources=resources, prompts=(introduce,))
sys.exit(cli.run(service, sys.argv[1:]))
"""


class Canaries(dict[str, str]):
    """A text for each field, made when it is asked for, of letters that no hash and no id of a trace has."""

    def __missing__(self, field: str) -> str:
        self[field] = "".join(secrets.choice("ghjkmnpqrstvwxyz") for _ in range(32))
        return self[field]

    def found_in(self, output: str) -> set[str]:
        """Return the fields of which a piece is in an output."""
        return {field for field, text in self.items() if has_piece(output, text)}


def has_piece(output: str, text: str) -> bool:
    """Whether eight characters of a text are in an output, one after another, as they are or percent-encoded."""
    pieces = [text[i : i + PIECE] for i in range(len(text) - PIECE + 1)]
    return any(piece in output or escaped(piece) in output for piece in pieces)


def escaped(text: str) -> str:
    """Return a text with every character percent-encoded."""
    return "".join(f"%{ord(character):02x}" for character in text)


def messages(canary: Canaries, mode: str) -> Iterator[dict[str, Any]]:
    """Return messages with canaries: of every kind, well-formed and not."""
    meta = {
        canary["meta name"]: canary["meta value"],
        "tracestate": f"a={canary['state']}",
        "baggage": f"a={canary['b']}",
    }
    meta["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    good = {"text": canary["argument"]}
    nested = {
        "text": {canary["nested name"]: [canary["nested value"]]},
        canary["argument name"]: canary["unknown value"],
    }
    params: list[tuple[str, dict[str, Any]]] = [
        *(("tools/call", {"name": tool, "arguments": good, "_meta": meta})
          for tool in ("echo", "crash", "fail", "reject", "validated", "late")),
        ("tools/call", {"name": "echo", "arguments": nested}),
        ("tools/call", {"name": canary["tool"], "arguments": good}),
        ("tools/call", {"name": {"a": canary["tool object"]}, "arguments": canary["arguments"]}),
        ("tools/call", {"name": "echo", "inputResponses": {canary["response"]: canary["response value"]}}),
        ("tools/call", {"name": "echo", "arguments": good, "requestState": canary["state of a request"]}),
        *(("resources/read", {"uri": f"{scheme}://{canary['resource']}"})
          for scheme in ("echo", "crash", "fail", "reject", "nothing")),
        ("resources/read", {"uri": canary["uri"]}),
        ("prompts/get", {"name": "introduce", "arguments": {"text": canary["prompt argument"]}}),
        ("prompts/get", {"name": "introduce", "arguments": {canary["prompt name"]: canary["prompt value"]}}),
        ("prompts/get", {"name": canary["prompt"], "arguments": {}}),
        ("tools/list", {"cursor": canary["cursor"]}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": canary["ref"]},
                                 "argument": {"name": canary["completed"], "value": canary["completion"]}}),
        (canary["method"], {canary["param"]: canary["param value"]}),
    ]  # fmt: skip
    for method, given in params:
        made = message(method, given, mode=mode)
        if mode != "legacy":
            made["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"] = canary["client"]
        yield made | {"id": canary["id"]}
    client = {"name": canary["client"], "version": canary["version"]}
    yield {"jsonrpc": "2.0", "id": 1, "method": "initialize",
           "params": {"protocolVersion": canary["protocol"], "capabilities": {}, "clientInfo": client}}  # fmt: skip
    yield {"jsonrpc": "2.0", "method": "notifications/cancelled",
           "params": {"requestId": canary["cancelled"], "reason": canary["cancel reason"]}}  # fmt: skip
    yield {"jsonrpc": "2.0", "method": f"notifications/{canary['notification']}", "params": {"a": canary["notified"]}}
    yield {"jsonrpc": canary["jsonrpc"], "id": 1, "method": "ping", canary["member"]: canary["member value"]}
    yield {"jsonrpc": "2.0", "id": canary["late id"], "result": {"a": canary["result"]}}
    yield {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": canary["error"], "data": canary["data"]}}


BODIES = (
    "FIELD is not JSON",
    '{"FIELD": 1, "FIELD": 2}',
    '["FIELD"]',
    '"FIELD"',
    '{"FIELD',
    '{"jsonrpc": "2.0", "id": "FIELD"}',
)


def attack(server: ServerProcess, canary: Canaries) -> None:
    """Send a canary in every field of a request, over HTTP of both eras."""
    running = server.running
    for mode in MODES:
        for made in messages(canary, mode):
            named = str(made.get("params", {}).get("name", made.get("params", {}).get("uri", "")))
            fields: list[Header] = [*headers_of(running, made.get("method", ""), named, mode=mode).items(), JSON]
            send(running, "POST", "/mcp", fields, json.dumps(made).encode())
    for body in BODIES:
        post(running, body.replace("FIELD", canary["body"]).encode())
    good = json.dumps(message("tools/call", {"name": "echo", "arguments": {"text": canary["argument"]}})).encode()
    for name in HEADERS:
        kept = [field for field in (key_of(running), JSON, ("Accept", "*/*")) if str(field[0]) != name]
        send(running, "POST", "/mcp", [*kept, (name, canary[name])], good)
        send(running, "GET", "/nothing", [key_of(running), (name, canary[name])])
    for scheme in ("Bearer ", "Basic ", ""):
        send(running, "GET", "/health", [("Authorization", scheme + canary["credential"])])
    send(running, canary["HTTP method"], "/nothing", [key_of(running)])
    send(running, "GET", f"/nothing?{canary['query name']}={canary['query']}", [key_of(running)])
    send(running, "GET", f"/security/events?limit={canary['limit']}&event={canary['event']}", [key_of(running)])
    send(running, "GET", "/" + canary["path"], [key_of(running)])
    send(running, "GET", "/health", host=canary["host"])
    send(running, "GET", "/health", [("Origin", f"https://{canary['origin']}")])
    send(running, "GET", "/health", [("X-Request-ID", canary["request id"])])
    send(running, "GET", "/health", [("X-Request-ID", canary["malformed request id"] * 3)])


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Take traces, as they come."""
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def outputs(server: ServerProcess, traces: Iterable[bytes]) -> dict[str, str]:
    """Return everything that the server has written or answered."""
    running = server.running
    return {
        "log": server.written(),
        "standard output": server.written("stdout"),
        "trail": (server.directory / "audit.jsonl").read_text(),
        "events": send(running, "GET", "/security/events?limit=1000", [key_of(running)]).text,
        "metrics": send(running, "GET", "/metrics", [key_of(running)]).text,
        "traces": b"".join(traces).decode("latin-1"),
    }


@contextmanager
def watched(directory: Path, **settings: str) -> Iterator[tuple[ServerProcess, list[bytes]]]:
    """Start a server that writes all it can."""
    program = directory / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    settings = {"audit_file": str(directory / "audit.jsonl"), "audit_key": secrets.token_urlsafe(32)} | settings
    settings |= {"log_level": "debug", "max_failed_auth_per_minute": "1000", "otel_bsp_schedule_delay": "100"}
    with collector() as (endpoint, traces):
        options = {"otel_exporter_otlp_endpoint": endpoint, **settings}
        with server_process(directory, program=[str(program), "serve"], **options) as server:
            yield server, traces


def written_out(server: ServerProcess, traces: list[bytes]) -> None:
    """Wait until all that was caused has been written."""
    last = message("tools/call", {"name": "echo", "arguments": {"text": "a"}})
    post(server.running, json.dumps(last).encode(), [JSON, ("X-Request-ID", "the-last-request")])
    wait_until(lambda: "the-last-request" in server.written())
    wait_until(lambda: "the-last-request" in (server.directory / "audit.jsonl").read_text())
    wait_until(lambda: any(b"the-last-request" in body for body in traces))


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_field_of_a_request_is_in_an_output(tmp_path: Path, log_format: str) -> None:
    canary = Canaries()
    with watched(tmp_path, log_format=log_format, log_level="DEBUG") as (server, traces):
        attack(server, canary)
        written_out(server, traces)
        found = {name: canary.found_in(output) for name, output in outputs(server, traces).items()}
        written = server.written()
    for crash in ("KeyError", "a thread crashed", "Task exception was never retrieved"):
        assert crash in written, "a crash leaves its traceback, whichever way it gets to the log"
    assert {name: fields - SHOWN for name, fields in found.items() if fields - SHOWN} == {}
    assert found["log"] == SHOWN, "an operator does see these"
    assert len(canary) > 60


def test_no_piece_of_a_credential_is_in_an_output_wherever_it_is_put(tmp_path: Path) -> None:
    """Behind a text of any length, so that a cut leaves a part of it, and as a part from the start."""
    audit_key, presented = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    with watched(tmp_path, audit_key=audit_key) as (server, traces):
        running = server.running
        for secret in (running.key, audit_key, presented):
            for text in (secret, secret[:30], secret[5:], *("a" * length + secret for length in range(150, 201, 7))):
                credential: Header = ("Authorization", f"Bearer {presented if secret == presented else running.key}")
                put(server, credential, text)
        written_out(server, traces)
        leaks = [
            (name, secret)
            for name, output in outputs(server, traces).items()
            for secret in (running.key, presented, audit_key)
            if has_piece(output, secret)
        ]
        assert leaks == []
        assert server.written().count("[redacted]") > 20


def put(server: ServerProcess, credential: Header, text: str) -> None:
    """Put a text wherever a client can put one."""
    running, encoded = server.running, escaped(text)
    for path in (f"/{text}", f"/{encoded}", f"/{encoded.replace('%', '%25')}"):
        send(running, "GET", path, [credential])
    for name in ("X-Request-ID", "Origin", "X-Forwarded-For", "Mcp-Name", "Mcp-Method"):
        answer = send(running, "GET", "/nothing", [credential, (name, text[-64:])])
        assert not has_piece(str(answer.headers) + answer.text, text[-30:])
    send(running, "GET", "/health", [credential, ("Origin", f"https://{encoded}")])
    send(running, "GET", "/health", [credential], host=text)
    for method, params in (
        ("tools/call", {"name": text, "arguments": {text: text}}),
        ("tools/call", {"name": "crash", "arguments": {"text": text}}),
        ("tools/call", {"name": "echo", "arguments": {text: {text: text}}}),
        ("resources/read", {"uri": f"echo://{quote(text)}"}),
        ("resources/read", {"uri": text}),
        ("prompts/get", {"name": text, "arguments": {text: text}}),
        (text, {text: text}),
    ):
        body = json.dumps(message(method, params)).encode()
        send(running, "POST", "/mcp", [credential, JSON, ("Accept", "*/*")], body)


def test_no_field_of_a_message_is_in_an_output_on_stdio(tmp_path: Path) -> None:
    canary, program, trail = Canaries(), tmp_path / "program.py", tmp_path / "audit.jsonl"
    program.write_text(PROGRAM, encoding="utf-8")
    lines = [json.dumps(made) for mode in MODES for made in messages(canary, mode)]
    lines += [body.replace("FIELD", canary["body"]) for body in BODIES]
    settings = {"audit_file": str(trail), "audit_key": secrets.token_urlsafe(32), "log_level": "debug"}
    initialize = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(program), "stdio"], cwd=tmp_path, env=environment(log_format="json", **settings),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
        assert process.stdin is not None
        start = [message("initialize", initialize), {"jsonrpc": "2.0", "method": "notifications/initialized"}]
        last = message("tools/call", {"name": "fail", "arguments": {"text": "a"}})
        process.stdin.write("\n".join([*map(json.dumps, start), *lines, json.dumps(last), ""]).encode())
        process.stdin.flush()
        wait_until(lambda: trail.exists() and trail.read_text().count('"mcp.tool":"fail"') >= 2)
        process.stdin.close()
        assert process.wait(20) == 0
    found = {path.name: canary.found_in(path.read_text()) for path in (tmp_path / "stderr", trail)}
    assert found == {"stderr": set(), "audit.jsonl": set()}
    assert len(canary) > 30
