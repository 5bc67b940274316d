"""The servers that are compared. All of them have one tool, `echo`.

    python benchmarks/servers.py raw|sdk PORT
    python benchmarks/servers.py ours PORT PROJECT [TOOLS]
    python benchmarks/servers.py fastmcp PORT          (by an interpreter that has fastmcp)

`raw` is what uvicorn itself costs: it parses the body and answers with one JSON document, or refuses with 401 what has
no credential. `sdk` is the SDK's application as it comes, without sessions, in its JSON mode. Both use uvicorn's own
h11 protocol, which is what the SDK installs, or what HTTP names (`HTTP=httptools`); what the class of our server adds
is counted as ours. `ours` has every layer on. `fastmcp` has its own token verification, rate limit and structured log.
"""

import importlib
import json
import logging
import os
import sys
from typing import Any


def main() -> None:
    """Serve until the process is stopped."""
    kind, port = sys.argv[1], int(sys.argv[2])
    {"raw": raw, "sdk": sdk, "ours": ours, "fastmcp": fastmcp}[kind](port)


def run(app: Any, port: int) -> None:
    """Serve an application as plainly as possible."""
    uvicorn: Any = importlib.import_module("uvicorn")
    options = {"http": os.environ.get("HTTP", "h11"), "loop": "asyncio", "log_level": "warning", "access_log": False}
    uvicorn.run(app, host="127.0.0.1", port=port, **options)


def raw(port: int) -> None:
    """Serve one ASGI function."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if not any(name == b"authorization" for name, _ in scope["headers"]):
            text = b'{"title":"Unauthorized"}'
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
            headers.append((b"www-authenticate", b"Bearer"))
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": text})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        text = json.loads(body)["params"].get("arguments", {}).get("text", "")
        answer = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}}
        ).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    run(app, port)


def sdk(port: int) -> None:
    """Serve the SDK's application."""
    mcp = importlib.import_module("mcp.server.mcpserver").MCPServer("sdk", log_level="WARNING")

    @mcp.tool()  # type: ignore[untyped-decorator]
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    run(mcp.streamable_http_app(json_response=True, stateless_http=True), port)


def ours(port: int) -> None:
    """Serve a generated project with its own options, and with `echo` for its tools."""
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 1

    def module(name: str) -> Any:
        return importlib.import_module(f"mcp_chassis{name}")

    def make(number: int) -> Any:
        async def echo(text: str) -> str:
            """Return the text."""
            return text

        echo.__name__ = f"echo_{number}" if number else "echo"
        return module("").tool(title="Echo", read_only=True, open_world=False)(echo)

    settings = module(".settings").load_settings(
        port=port, log_format="json", max_result_bytes=8 << 20, max_result_tokens=8 << 20
    )
    module(".events.logging").configure_logging("INFO", log_format="json", secrets=settings.secrets)
    service = module("").Service(module="ours", tools=[make(number) for number in range(count)])
    module(".http.server").serve(module(".app").create_app(settings, service), settings)


def fastmcp(port: int) -> None:
    """Serve FastMCP with its own parts for the same work."""

    def module(name: str) -> Any:
        return importlib.import_module(f"fastmcp.{name}")

    logging.basicConfig(level=logging.INFO)
    tokens: dict[str, dict[str, Any]] = {os.environ["API_KEY"]: {"client_id": "default", "scopes": []}}
    verifier = module("server.auth.providers.jwt").StaticTokenVerifier(tokens=tokens)
    mcp = importlib.import_module("fastmcp").FastMCP("fastmcp", auth=verifier)
    limits = {"max_requests_per_second": 1_000_000, "burst_capacity": 1_000_000}
    mcp.add_middleware(module("server.middleware.rate_limiting").RateLimitingMiddleware(**limits))
    mcp.add_middleware(module("server.middleware.logging").StructuredLoggingMiddleware())

    @mcp.tool  # type: ignore[untyped-decorator]
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    run(mcp.http_app(json_response=True, stateless_http=True), port)


if __name__ == "__main__":
    main()
