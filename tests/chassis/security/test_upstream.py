"""An internal service of the team's: what is sent and comes back, what is sent again, whose fault a failure is."""

import asyncio
import errno
import json
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import httpcore2
import pytest
from mcp.types import CallToolResult
from pydantic import BaseModel

from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.sinks import (
    ConfigurationError,
    Fetched,
    InvalidInput,
    SafeFetcher,
    Upstream,
    UpstreamError,
    http,
)
from mcp_chassis.sinks.http import call_deadline

from ..support.certificates import Authority
from ..support.outside import Outside, Server, answers, reply
from ..support.project import PROJECT
from ..support.proxy import running_proxy
from ..support.running import text

pytestmark = pytest.mark.anyio

SECRET = "of-the-upstream-" + "x" * 8
Answer = tuple[int, dict[str, str], bytes]


class Service:
    """A service on loopback that keeps connections open. `script` answers first, then everything is a 200."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0
        self.script: list[Answer | Callable[[socket.socket], None]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                service.connections += 1

            def handle_one_request(self) -> None:
                with suppress(ConnectionError):
                    super().handle_one_request()

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.requests.append((self.command, self.path, headers, body))
                following = service.script.pop(0) if service.script else (200, {}, b'{"stock": 7}')
                if callable(following):
                    self.close_connection = True
                    following(self.connection)
                    return
                status, sent, content = following
                self.send_response(status)
                for name, value in sent.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Keep the output of the tests clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    started = Service()
    yield started
    started.close()


async def credential() -> str:
    """Be the provider of a token."""
    return f"Bearer {SECRET}"


def cut(connection: socket.socket) -> None:
    """Disconnect instead of answering."""
    connection.shutdown(socket.SHUT_RDWR)


def failed(error: BaseException) -> str:
    """Return all that an error says."""
    return "".join([*traceback.format_exception(error), getattr(error, "cause", "")])


# --- what is sent, what comes back ------------------------------------------------------------------------------------


async def test_all_methods_over_one_connection_with_the_credential_of_the_provider(service: Service) -> None:
    async with Upstream(service.url, authorization=credential) as upstream:
        assert (await upstream.get("/items", 7, params={"page": 2, "tag": ["a&b", "c"]})).json() == {"stock": 7}
        await upstream.post("/items", json={"name": "é"})
        await upstream.put("/items/7", json=[1])
        await upstream.patch("items/7/", content=b"raw", headers={"Content-Type": "text/plain"})
        await upstream.delete("/items", "7")
        await upstream.get("")
    assert [(method, path) for method, path, _, _ in service.requests] == [
        ("GET", "/api/items/7?page=2&tag=a%26b&tag=c"),
        ("POST", "/api/items"),
        ("PUT", "/api/items/7"),
        ("PATCH", "/api/items/7/"),
        ("DELETE", "/api/items/7"),
        ("GET", "/api"),
    ]
    assert {headers["authorization"] for _, _, headers, _ in service.requests} == {f"Bearer {SECRET}"}
    assert json.loads(service.requests[1][3]) == {"name": "é"}
    assert service.requests[1][2]["content-type"] == "application/json"
    assert (service.requests[3][3], service.requests[3][2]["content-type"]) == (b"raw", "text/plain")
    assert service.connections == 1


class Item(BaseModel):
    """What the service answers with."""

    stock: int


async def test_an_answer_becomes_a_model_or_the_upstreams_failure(service: Service) -> None:
    service.script = [
        (200, {}, b'{"stock": 7}'),
        (404, {}, b'{"stock": 7}'),
        (200, {}, b'{"stock": "' + SECRET.encode() + b'"}'),
        (200, {}, b"<html>"),
        (200, {}, b"[" * 100_000),
    ]
    async with Upstream(service.url) as upstream:
        assert (await upstream.get("/items/7")).json_as(Item) == Item(stock=7)
        missing = await upstream.get("/items/8")
        assert missing.status == 404
        for response in (missing, await upstream.get("/x"), await upstream.get("/x"), await upstream.get("/x")):
            with pytest.raises(UpstreamError) as error:
                response.json_as(Item)
            assert SECRET not in failed(error.value)


# --- where it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["..", ".", "", "../admin", "a/../../admin", "..\\admin", "%2e%2e", "..;", "%2e%2e%2fx"]
)
async def test_no_value_leaves_the_base_path(service: Service, value: str) -> None:
    async with Upstream(service.url) as upstream:
        for path, values in (("/items", (value,)), (f"/items/{value}/x", ())):
            with pytest.raises(InvalidInput):
                await upstream.get(path, *values)
    assert service.requests == []


@pytest.mark.parametrize(
    "value", ["a/b", "a?admin=1", "a#b", "http://other.example/", "//other.example", "@other", "é ü", "a%2fb"]
)
async def test_a_value_is_one_segment(service: Service, value: str) -> None:
    async with Upstream(service.url) as upstream:
        await upstream.get("/items", value, "x")
    (path,) = service.paths
    assert path.startswith("/api/items/")
    assert path.endswith("/x")
    assert path.count("/") == 4
    assert not set("?# ") & set(path)


async def test_no_redirect_is_followed_with_the_credential(service: Service) -> None:
    async with Upstream(service.url, authorization=credential) as upstream:
        for status, location in [
            (302, "items/8/"),
            (301, "/admin"),
            (307, "//other.example/api"),
            (308, "http://127.0.0.1:1/"),
        ]:
            for method in ("GET", "POST"):
                service.script = [(status, {"Location": location}, b"")]
                with pytest.raises(UpstreamError) as error:
                    await upstream.request(method, "/items")
                assert f"redirects, with status {status}" in error.value.cause
    assert set(service.paths) == {"/api/items"}
    assert len(service.requests) == 8


@pytest.mark.parametrize(
    "url",
    ["ftp://a/", "//a", "https://u:p@a/", "https://a/?x=1", "https://a/#x", "https://a/../b", "https://a/%2e%2e", ""],
)
def test_a_base_url_that_is_none_is_the_authors_mistake(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base URL"):
        Upstream(url)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"max_bytes": 0}, {"networks": ["10.0.0.1/8"]}])
def test_wrong_limits_are_the_authors_mistake(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Upstream("https://stock.internal/", **options)


@pytest.mark.parametrize(
    ("address", "networks", "reached"),
    [
        ("10.1.2.3", (), True),
        ("fd00::1", (), True),
        ("93.184.215.14", (), True),
        ("127.0.0.1", (), False),
        ("169.254.169.254", (), False),
        ("::ffff:169.254.169.254", (), False),
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("10.1.2.3", ("192.168.0.0/16",), False),
        ("93.184.215.14", ("10.0.0.0/8",), False),
    ],
)
async def test_the_name_leads_to_its_networks_only(
    outside: Outside, address: str, networks: tuple[str, ...], reached: bool
) -> None:
    outside.name("stock.internal", address)
    async with Upstream("http://stock.internal:8080/api", networks=networks) as upstream:
        with pytest.raises(UpstreamError if reached else ConfigurationError):
            await upstream.post("/items", json={})
    assert {host for host, _ in outside.dialled} == ({address} if reached else set())


async def test_localhost_is_this_machine(service: Service) -> None:
    async with Upstream(service.url.replace("127.0.0.1", "localhost")) as upstream:
        assert (await upstream.get("/items")).status == 200


# --- what is sent again -----------------------------------------------------------------------------------------------


async def test_what_is_safe_is_sent_again_twice_at_most(service: Service) -> None:
    async with Upstream(service.url) as upstream:
        for method, attempts in {"GET": 3, "PUT": 3, "DELETE": 3, "POST": 1, "PATCH": 1}.items():
            service.requests.clear()
            service.script = [cut, cut, cut]
            with pytest.raises(UpstreamError):
                await upstream.request(method, "/items")
            assert len(service.requests) == attempts, method
        service.script = [cut, (503, {"Retry-After": "0"}, b"")]
        assert (await upstream.get("/items")).status == 200


@pytest.mark.parametrize("status", [429, 503])
async def test_a_service_that_is_busy_is_asked_again_when_it_says(service: Service, status: int) -> None:
    async with Upstream(service.url, timeout=5) as upstream:
        for after, method, attempts in (
            ("0", "GET", 2),
            (None, "GET", 1),
            ("0", "POST", 1),
            ("60", "GET", 1),
            ("x", "GET", 1),
        ):
            service.requests.clear()
            service.script = [(status, {} if after is None else {"Retry-After": after}, b"")]
            started = time.monotonic()
            if attempts == 2:
                assert (await upstream.request(method, "/items")).status == 200
            else:
                with pytest.raises(UpstreamError) as error:
                    await upstream.request(method, "/items")
                assert f"status {status}" in error.value.cause
            assert len(service.requests) == attempts
            assert time.monotonic() - started < 3
            service.script.clear()


async def test_any_method_is_sent_again_if_no_connection_was_made(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    real, dialled = httpcore2.AnyIOBackend.connect_tcp, []

    async def connect(self: Any, *args: Any, **options: Any) -> Any:
        dialled.append(args)
        if len(dialled) < 3:
            raise httpcore2.ConnectError("refused")
        return await real(self, *args, **options)

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    async with Upstream(service.url) as upstream:
        assert (await upstream.post("/items", json={})).status == 200
    assert (len(dialled), len(service.requests)) == (3, 1)


# --- how long ---------------------------------------------------------------------------------------------------------


async def test_it_ends_before_the_tool_call_does(service: Service) -> None:
    async def ask() -> Fetched:
        async with asyncio.timeout(0.5) as deadline, Upstream(service.url, timeout=30) as upstream:
            call_deadline.set(deadline.when() or 0.0)
            return await upstream.get("/items")

    for answer in (lambda _: time.sleep(1), (503, {"Retry-After": "20"}, b"")):
        service.script = [answer]
        started = time.monotonic()
        with pytest.raises(UpstreamError) as error:  # not the TimeoutError of the call
            await asyncio.create_task(ask())
        assert time.monotonic() - started < 0.5
        assert "seconds" in error.value.cause or "503" in error.value.cause


async def test_a_deadline_within_the_tool_counts_too(service: Service) -> None:
    service.script = [(503, {"Retry-After": "2"}, b"")]
    async with Upstream(service.url, timeout=30) as upstream:
        started = time.monotonic()
        with anyio.fail_after(1), pytest.raises(UpstreamError):
            await upstream.get("/items")
    assert time.monotonic() - started < 0.5


# --- whose fault it is ------------------------------------------------------------------------------------------------


async def test_a_service_that_is_down_is_the_upstreams_failure_and_has_a_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with Upstream(f"http://127.0.0.1:{port}/") as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.get("/items")
    assert str(error.value) == "A service that the tool needs does not answer properly. Try again later."
    assert f"http://127.0.0.1:{port}" in error.value.cause
    assert "ConnectError" in error.value.cause


@pytest.mark.parametrize("certified", ["other.internal", None])
async def test_a_wrong_certificate_is_the_upstreams_failure_and_asked_once(
    outside: Outside, tmp_path: Path, certified: str | None
) -> None:
    authority = Authority(tmp_path)
    server = Server(answers(reply()), context=authority.server_context(certified or "stock.internal"))
    outside.site("stock.internal", "10.1.2.3", server)
    context: ssl.SSLContext | None = authority.client_context() if certified else None
    async with Upstream("https://stock.internal/", ssl_context=context, authorization=credential) as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.get("/items")
    server.close()
    assert "SSLCertVerificationError (" in error.value.cause
    assert SECRET not in failed(error.value)
    assert server.requests == []
    assert len(outside.dialled) == 1


@pytest.mark.parametrize("value", ["", "Bearer ", f"Bearer {SECRET}\r\nX: 1", f"Bearer {SECRET}é", f" {SECRET}"])
async def test_a_credential_that_cannot_be_sent_is_no_fault_of_the_caller(service: Service, value: str) -> None:
    async def provider() -> str:
        return value

    async with Upstream(service.url, authorization=provider) as upstream:
        with pytest.raises(ConfigurationError) as error:
            await upstream.get("/items")
    assert SECRET not in failed(error.value)
    assert service.requests == []


async def test_what_the_author_gets_wrong_is_no_fault_of_the_caller(service: Service) -> None:
    upstream = Upstream(service.url)
    with pytest.raises(ConfigurationError, match="lifespan"):
        await upstream.get("/items")
    async with upstream:
        for headers in ({"Authorization": f"Bearer {SECRET}"}, {"X": f"{SECRET}\n"}, {f"{SECRET} ": "x"}):
            with pytest.raises(ConfigurationError) as error:
                await upstream.get("/items", headers=headers)
            assert SECRET not in failed(error.value)
    with pytest.raises(ConfigurationError, match="lifespan"):
        await upstream.get("/items")


async def test_input_that_the_provider_is_refused_is_no_input_of_the_caller(service: Service) -> None:
    async def provider() -> str:
        return (await SafeFetcher().get("https://issuer.internal/token")).text()

    async with Upstream(service.url, authorization=provider) as upstream:
        with pytest.raises(ConfigurationError, match="local name"):
            await upstream.get("/items")


async def test_what_the_provider_raises_goes_on_as_it_is(service: Service) -> None:
    async def provider() -> str:
        raise FileNotFoundError(errno.ENOENT, "no token file")

    async with Upstream(service.url, authorization=provider) as upstream:
        with pytest.raises(FileNotFoundError):
            await upstream.get("/items")


async def test_a_server_without_descriptors_left_is_no_fault_of_the_upstream(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(*_: Any, **__: Any) -> Any:
        try:
            raise OSError(errno.EMFILE, "Too many open files")
        except OSError as error:
            raise httpcore2.ConnectError(error) from error

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    async with Upstream(service.url, timeout=1) as upstream:
        with pytest.raises(ConfigurationError, match="Too many open files"):
            await upstream.get("/items")


async def test_an_answer_over_the_limit_is_the_upstreams_failure_also_on_a_kept_connection(service: Service) -> None:
    async with Upstream(service.url, max_bytes=100_000) as upstream:
        for _ in range(5):
            service.script = [(200, {}, b"x" * 100_000)]
            assert len((await upstream.get("/items")).body) == 100_000
        service.script = [(200, {}, b"x" * 100_001)]
        with pytest.raises(UpstreamError) as error:
            await upstream.get("/items")
    assert service.connections == 1
    assert "100000 bytes" in error.value.cause


# --- the recipe of the documents --------------------------------------------------------------------------------------


async def test_the_recipe_of_the_documents_works(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (PROJECT / "docs" / "outgoing-values.md").read_text(encoding="utf-8")
    recipe = page.partition("## Your own services")[2].partition("```python\n")[2].partition("```")[0]
    written = 'Upstream("https://stock.internal:8443/api", networks=["10.0.0.0/8"]'
    assert written in recipe
    monkeypatch.setenv("STOCK_TOKEN", SECRET)
    module = ModuleType("recipe")
    monkeypatch.setitem(sys.modules, "recipe", module)
    source = recipe.replace(written, f'Upstream("{service.url}", networks=["127.0.0.0/8"]')
    exec(compile(source, "recipe", "exec"), vars(module))  # noqa: S102  (a recipe of ours)
    server = GuardedServer("stock", tools=(module.stock_of, module.reserve), events=EventLog())

    async def call(tool: str, **arguments: Any) -> str:
        result = await server.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        return text(result)

    service.script = [
        (200, {}, b'{"name": "bolt", "left": 7}'),
        (404, {}, b"{}"),
        (201, {}, b'{"number": 9}'),
        (401, {}, SECRET.encode()),
        cut,
        cut,
        cut,
    ]
    async with module.open_state(None):
        assert await call("stock_of", item="bolt") == "7"
        assert "There is no such item." in await call("stock_of", item="nut")
        assert await call("reserve", item="bolt", count=2) == "9"
        assert "The service that the tool asked answered with status 401." in await call("stock_of", item="bolt")
        assert "Try again later" in await call("stock_of", item="bolt")
        assert "Invalid arguments" in await call("stock_of", item="..")
    assert service.paths[:3] == ["/api/items/bolt", "/api/items/nut", "/api/items/bolt/reservations"]
    assert {headers["authorization"] for _, _, headers, _ in service.requests} == {f"Bearer {SECRET}"}


# --- no response of another request -----------------------------------------------------------------------------------

FORGED = reply(b"forged")
LENGTH = len(reply(b"x" * 16_000)) - 16_000
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
NO_CONTENT, NOT_MODIFIED = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"
SURPLUS: dict[str, tuple[str, bytes, bytes, float]] = {  # method, response, what follows it, after how many seconds
    "a body to HEAD": ("HEAD", reply(FORGED)[: -len(FORGED)], FORGED, 0),
    "a body to HEAD, late": ("HEAD", reply(FORGED)[: -len(FORGED)], FORGED, 0.02),
    "a body with 204": ("DELETE", NO_CONTENT, FORGED, 0),
    "a body with 204, late": ("DELETE", NO_CONTENT, FORGED, 0.02),
    "a body with 304, late": ("GET", NOT_MODIFIED, FORGED, 0.02),
    "too short a length": ("POST", reply(b"ok"), FORGED, 0),
    "half a response": ("GET", reply(b"ok"), FORGED[:20], 0),
    "behind a read of all that was asked for": ("GET", reply(b"x" * (16_384 - LENGTH)), FORGED, 0),
    "behind the last chunk": ("GET", CHUNKED, FORGED, 0),
}


class Talkative:
    """A service on kept connections that sends more than a response to a request for /documents."""

    def __init__(self, response: bytes, surplus: bytes, pause: float, *, in_pieces: bool) -> None:
        self._response, self._surplus, self._pause, self._in_pieces = response, surplus, pause, in_pieces
        self.connections = 0
        self._serving: list[asyncio.Task[None] | None] = []

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context) as server:
            yield f"{'https' if context else 'http'}://localhost:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(task for task in self._serving if task is not None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.append(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                if " /of/" in head:
                    await asyncio.sleep(0.01)  # so that others ask meanwhile
                    writer.write(reply(head.split()[1].encode()))
                elif self._in_pieces or self._pause:
                    writer.write(self._response)
                    await asyncio.sleep(self._pause)
                    writer.write(self._surplus)
                else:
                    writer.write(self._response + self._surplus)
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["TCP", "TLS"])
@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("case", SURPLUS.values(), ids=SURPLUS)
async def test_no_caller_gets_a_response_to_another(
    case: tuple[str, bytes, bytes, float], in_pieces: bool, is_encrypted: bool, tmp_path: Path
) -> None:
    method, response, surplus, pause = case
    authority = Authority(tmp_path)
    service = Talkative(response, surplus, pause, in_pieces=in_pieces)
    got: dict[str, str] = {}

    async def ask(path: str) -> None:
        got[path] = (await upstream.get(path)).text()

    async with (
        service.running(authority.server_context("localhost") if is_encrypted else None) as url,
        Upstream(url, timeout=5, ssl_context=authority.client_context()) as upstream,
    ):
        for number in range(3):
            await upstream.request(method, "/documents")
            await ask(f"/of/alice/{number}")
            async with anyio.create_task_group() as tasks:
                for user in ("bob", "carol", "dave"):
                    tasks.start_soon(upstream.request, method, "/documents")
                    tasks.start_soon(ask, f"/of/{user}/{number}")
        assert len(got) == 12
        assert got == {path: path for path in got}
        connections = service.connections
        await ask("/of/alice")
        await ask("/of/bob")
        assert service.connections <= connections + 1  # one that nothing was wrong with is kept


@pytest.mark.parametrize("content", [CHUNKED, reply(b"x" * 50_000)], ids=["chunks", "many reads"])
async def test_a_connection_is_kept_whatever_the_framing(content: bytes, tmp_path: Path) -> None:
    service = Talkative(content, b"", 0, in_pieces=False)
    authority = Authority(tmp_path)
    async with (
        service.running(authority.server_context("localhost")) as url,
        Upstream(url, ssl_context=authority.client_context()) as upstream,
    ):
        for _ in range(3):
            await upstream.get("/documents")
    assert service.connections == 1


async def test_a_connection_that_becomes_readable_before_the_request_is_sent_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pool looks when it chooses a connection; the surplus may come between that and the request."""
    service = Talkative(reply(b"ok"), b"", 0, in_pieces=False)
    handle = httpcore2.AsyncHTTP11Connection.handle_async_request

    async def late(self: httpcore2.AsyncHTTP11Connection, request: httpcore2.Request) -> httpcore2.Response:
        if sockets and self.is_available():
            sockets[0].write(FORGED)
            await anyio.sleep(0.02)
        return await handle(self, request)

    sockets: list[asyncio.StreamWriter] = []
    serve = service._serve

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sockets.append(writer)
        await serve(reader, writer)

    monkeypatch.setattr(service, "_serve", noted)
    monkeypatch.setattr(httpcore2.AsyncHTTP11Connection, "handle_async_request", late)
    async with service.running(None) as url, Upstream(url) as upstream:
        assert (await upstream.post("/of/alice")).text() == "/of/alice"
        assert (await upstream.post("/of/bob", json=1)).text() == "/of/bob"
    assert service.connections == 2


def test_where_the_state_of_a_connection_is_not_found_it_is_not_used_again() -> None:
    """It is in no public interface of httpcore, so another version may keep it elsewhere."""
    assert not http._is_all_that_came(httpcore2.Response(200))


# --- look-ups and limits ----------------------------------------------------------------------------------------------


@pytest.fixture
def patched(outside: Outside) -> Iterator[pytest.MonkeyPatch]:
    """A patch that ends before that of `outside`, whose resolver it stands in front of."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


async def test_names_of_callers_that_take_long_do_not_keep_the_services_from_theirs(
    outside: Outside, patched: pytest.MonkeyPatch
) -> None:
    served = Server(answers(reply(b"ok")))
    outside.site("stock.internal", "10.0.0.1", served)
    released = threading.Event()
    resolve = socket.getaddrinfo

    def slow(host: str | bytes, *args: Any, **options: Any) -> Any:
        if "slow" in str(host):
            released.wait(20)
        return resolve(host, *args, **options)

    patched.setattr(socket, "getaddrinfo", slow)
    patched.setattr(http, "LOOKUPS_OF_CALLERS", http.Lookups(2, waits=False))

    async def ask(number: int) -> None:
        with suppress(UpstreamError, InvalidInput):
            await SafeFetcher(timeout=0.05).get(f"https://slow{number}.acme.com/")

    try:
        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(ask, number)
        with pytest.raises(UpstreamError, match="too many names"):  # though no call waits for them any more
            await SafeFetcher().get("https://fast.acme.com/")
        async with Upstream("http://stock.internal", timeout=2) as upstream:
            assert (await upstream.get("/")).text() == "ok"
    finally:
        released.set()
        served.close()
    for _ in range(100):
        await anyio.sleep(0.01)  # until the threads are free again
        try:
            await SafeFetcher().get("https://fast.acme.com/")
        except UpstreamError:
            continue
        except InvalidInput:  # it has no address
            break
    else:
        pytest.fail("no thread became free")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "its name has no address"),
        (UnicodeError("label too long"), "its name has no address"),
        (
            socket.gaierror(socket.EAI_AGAIN, "no answer"),
            "the server's name cannot be looked up now [gaierror (no answer)]",
        ),
    ],
)
async def test_a_look_up_that_fails_is_a_failure_of_the_service(
    outside: Outside, patched: pytest.MonkeyPatch, error: Exception, cause: str
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise error

    patched.setattr(socket, "getaddrinfo", failing)
    async with Upstream("http://stock.internal") as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.get("/")
    assert caught.value.cause == f"http://stock.internal: {cause}"


async def test_a_year_that_no_calendar_has_is_no_time_to_wait_for(service: Service) -> None:
    service.script = [(503, {"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, b"")]
    async with Upstream(service.url) as upstream:
        with pytest.raises(UpstreamError):
            await upstream.get("/items")


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade"])
async def test_a_header_about_the_connection_is_the_tools_mistake(service: Service, name: str) -> None:
    async with Upstream(service.url) as upstream:
        with pytest.raises(ConfigurationError, match=name):
            await upstream.post("/items", content=b"abc", headers={name: "1"})
    with pytest.raises(ConfigurationError, match=name):
        await SafeFetcher().get("https://example.com/", headers={name: "1"})
    assert service.requests == []


async def test_a_service_behind_a_proxy_with_a_certificate_of_the_company(outside: Outside, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "company.pem").write_bytes(authority.pem)
    server = Server(answers(reply(b"[7]")), context=authority.server_context("stock.internal"))
    with running_proxy({"stock.internal:8443": server.port}) as proxy:
        stock = Upstream("https://stock.internal:8443/api", ca_file=tmp_path / "company.pem", proxy=proxy.url)
        async with stock:
            for _ in range(2):
                assert (await stock.get("/items", 7)).json() == [7]
        assert set(proxy.asked) == {"stock.internal:8443"}
    assert outside.lookups == []
    assert server.requests[0].startswith(b"GET /api/items/7 HTTP/1.1\r\n")
    server.close()


def test_networks_that_a_proxy_would_leave_unchecked_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="behind a proxy cannot check `networks`"):
        Upstream("https://stock.internal", networks=["10.0.0.0/8"], proxy="http://proxy:3128")


@pytest.mark.parametrize("options", [{"proxy": "socks5://me:hunter2@proxy"}, {"ca_file": "missing.pem"}])
def test_a_way_that_cannot_be_used_is_refused_at_once(options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        Upstream("https://stock.internal", **options)  # type: ignore[arg-type]
    assert "hunter2" not in str(error.value)
