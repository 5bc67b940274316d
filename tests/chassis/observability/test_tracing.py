"""Traces: the SDK's spans reach a collector, say which request and whose, and nothing of what was sent."""

import json
import os
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mcp_chassis import tracing
from mcp_chassis.settings import SettingsError, load_settings

from ..attacks.wire import ACCEPT, JSON, key_of, send
from ..support.running import ServerProcess, server_process, wait_until

try:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span
except ModuleNotFoundError:
    if os.environ.get("CI"):
        raise
    pytest.skip('needs the extra `otel`: pip install -e ".[dev]"', allow_module_level=True)

CANARY = f"canary-{secrets.token_hex(12)}"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PROGRAM = """
import sys
from mcp_chassis import cli
from mcp_chassis import Service, tool
from mcp import MCPError

@tool(read_only=True)
def crash(text: str) -> str:
    raise RuntimeError(text)

@tool(read_only=True)
def refuse(text: str) -> str:
    raise MCPError(code=-32000, message=text)

sys.exit(cli.run(Service(module="tracing", tools=(crash, refuse)), ["serve"]))
"""


class Collector(BaseHTTPRequestHandler):
    """Takes what is exported."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        """Remember one export."""
        self.received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, list[tuple[str, bytes]]]]:
    """A server that exports to a collector, after calls."""
    directory = tmp_path_factory.mktemp("traces")
    (directory / "program.py").write_text(PROGRAM, encoding="utf-8")
    received: list[tuple[str, bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Taking", (Collector,), {"received": received}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "100"
    endpoint, trail = f"http://127.0.0.1:{server.server_port}", str(directory / "audit.jsonl")
    settings = {"otel_exporter_otlp_endpoint": endpoint, "audit_file": trail, "audit_key": secrets.token_urlsafe(32)}
    try:
        with server_process(directory, program=[str(directory / "program.py")], **settings) as running:
            for tool in ("crash", "refuse"):
                call(running, tool)
            wait_until(lambda: len(spans(received)) >= 2)
            yield running, received
    finally:
        del os.environ["OTEL_BSP_SCHEDULE_DELAY"]
        server.shutdown()
        server.server_close()
        thread.join()


def call(server: ServerProcess, tool: str) -> None:
    """Call a tool that repeats in its exception what it was given."""
    meta = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    params = {"name": tool, "arguments": {"text": CANARY}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    headers = [key_of(server.running), JSON, ACCEPT, ("X-Request-ID", f"request-{tool}")]
    send(server.running, "POST", "/mcp", headers, body.encode())


def spans(received: list[tuple[str, bytes]]) -> list[Span]:
    """Return the spans that have arrived."""
    return [
        span
        for _, body in received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_spans_arrive_with_request_and_principal(collected: tuple[ServerProcess, list[tuple[str, bytes]]]) -> None:
    _, received = collected
    assert {path for path, _ in received} == {"/v1/traces"}
    by_name = {span.name: span for span in spans(received)}
    span = by_name["tools/call crash"]
    attributes = {pair.key: pair.value.string_value for pair in span.attributes}
    assert attributes["http.request.id"] == "request-crash"
    assert attributes["user.id"] == "key:default"
    assert span.trace_id.hex() == TRACE


def test_nothing_that_was_sent_is_in_them(collected: tuple[ServerProcess, list[tuple[str, bytes]]]) -> None:
    """What an exception says may repeat an argument: neither its event nor the status may carry it."""
    server, received = collected
    assert {span.name for span in spans(received)} >= {"tools/call crash", "tools/call refuse"}
    for _, body in received:
        assert CANARY.encode() not in body
        assert server.running.key.encode() not in body


def test_the_audit_trail_names_the_trace(collected: tuple[ServerProcess, list[tuple[str, bytes]]]) -> None:
    server, _ = collected
    wait_until(lambda: f'"trace.id":"{TRACE}"' in (server.directory / "audit.jsonl").read_text())


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://127.0.0.1", "https://"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL"):
        load_settings(_env_file=None, enable_auth=False, otel_exporter_otlp_endpoint=endpoint)


def test_without_the_extra_the_server_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tracing, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"needs this project's \[otel\] extra"):
        load_settings(_env_file=None, enable_auth=False, otel_exporter_otlp_endpoint="http://127.0.0.1:4318")
