"""Server-side request forgery: a URL that leads somewhere else than it says (CWE-918, OWASP API7:2023).

Each test looks at the sink: which addresses were dialled, what a listener on loopback saw, how much a server sent.
"""

import gzip
import math
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import FrozenInstanceError
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mcp_chassis.sinks import ConfigurationError, InvalidInput, SafeFetcher, UpstreamError

from ..support.certificates import Authority
from ..support.outside import ANOTHER, PUBLIC, Canary, Handler, Outside, Server, answers, redirect, reply
from ..support.proxy import running_proxy

pytestmark = pytest.mark.anyio

Serve = Callable[[Handler], Server]
SITE = "http://www.example.com/"


@pytest.fixture
def site(outside: Outside) -> Iterator[Serve]:
    """Starts a server of the attacker's at http://www.example.com/."""
    servers: list[Server] = []

    def start(handler: Handler) -> Server:
        servers.append(Server(handler))
        outside.site("www.example.com", PUBLIC, servers[-1])
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def fetcher(canary: Canary | None = None, *, timeout: float = 5) -> SafeFetcher:
    """Return a fetcher that lets http and the canary's port pass: only the address can save it."""
    return SafeFetcher(schemes=("http", "https"), ports={80, 443, canary.port if canary else 80}, timeout=timeout)


# --- the URL itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0.0.0.0", "0", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1"),
        *("localhost", "LocalHost", "localhost.", "a.localhost", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]"),
        *("[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::1%25lo]"),
        *("example.com@127.0.0.1", "127.0.0.1#@example.com", "example.com\\@127.0.0.1", "127.0.0.1\\.example.com"),
        *("１２７.0.0.1", "127。0。0。1", "127%2e0%2e0%2e1", "127.0.0.1%23.example.com", "127.0.0.1\t"),
    ],
)
async def test_loopback_in_disguise(outside: Outside, canary: Canary, host: str) -> None:
    for name in ("localhost", "localhost.", "LocalHost", "a.localhost", "127.1", "0", "2130706433", "0x7f000001"):
        outside.name(name, "127.0.0.1")
    with pytest.raises(InvalidInput):
        await fetcher(canary).get(f"http://{host}:{canary.port}/")
    assert canary.connections == 0
    assert outside.dialled == []


@pytest.mark.parametrize("scheme", ["file", "gopher", "dict", "ftp", "ldap", "unix", "data", "ws", ""])
async def test_another_scheme(outside: Outside, site: Serve, canary: Canary, scheme: str) -> None:
    site(answers(reply()))
    with pytest.raises(InvalidInput):
        await fetcher(canary).get(f"{scheme}://www.example.com:{canary.port}/etc/passwd")
    assert outside.dialled == []


async def test_plain_http_is_off_by_default(outside: Outside) -> None:
    outside.name("www.example.com", PUBLIC)
    with pytest.raises(InvalidInput):
        await SafeFetcher().get(SITE)
    assert outside.dialled == []


@pytest.mark.parametrize("port", [22, 25, 80, 2375, 6379, 8443, 11211, 65979])
async def test_a_port_of_another_service(outside: Outside, port: int) -> None:
    outside.name("www.example.com", PUBLIC)
    with pytest.raises(InvalidInput):
        await SafeFetcher().get(f"https://www.example.com:{port}/")
    assert outside.dialled == []


# --- the name ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "10.0.0.1", "100.64.0.1", "169.254.169.254", "168.63.129.16", "192.168.1.1"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
        *("fe80::1", "fe80::1%lo", "fec0::1", "fd00:ec2::254", "3fff::1", "2606:4700::5efe:127.0.0.1"),
    ],
)
async def test_a_public_name_with_an_internal_address(outside: Outside, canary: Canary, address: str) -> None:
    outside.name("www.example.com", address)
    with pytest.raises(InvalidInput):
        await fetcher(canary).get(f"http://www.example.com:{canary.port}/")
    assert canary.connections == 0
    assert outside.dialled == []


@pytest.mark.parametrize("found", [(PUBLIC, "127.0.0.1"), ("127.0.0.1", PUBLIC)])
async def test_an_internal_address_among_public_ones(outside: Outside, canary: Canary, found: tuple[str, str]) -> None:
    outside.name("www.example.com", found)
    with pytest.raises(InvalidInput):
        await fetcher(canary).get(f"http://www.example.com:{canary.port}/")
    assert canary.connections == 0
    assert outside.dialled == []


async def test_dns_rebinding(outside: Outside, canary: Canary) -> None:
    """The first look-up is for the check, the second one for a client that looks up twice."""
    outside.name("www.example.com", PUBLIC, "127.0.0.1")
    with pytest.raises(UpstreamError):
        await fetcher(canary).get(f"http://www.example.com:{canary.port}/")
    assert canary.connections == 0
    assert outside.dialled == [(PUBLIC, canary.port)]
    assert outside.lookups == ["www.example.com"]


async def test_dns_rebinding_between_two_requests(outside: Outside, site: Serve, canary: Canary) -> None:
    """No connection is kept from an earlier check, and no check from an earlier connection."""
    server = site(answers(reply(b"hello", "Connection: keep-alive")))
    outside.name("www.example.com", PUBLIC, "127.0.0.1")
    shared = fetcher(canary)
    assert (await shared.get(f"http://www.example.com:{canary.port}/")).status == 200
    with pytest.raises(InvalidInput):
        await shared.get(f"http://www.example.com:{canary.port}/")
    assert canary.connections == 0
    assert len(server.requests) == 1


async def test_dns_rebinding_on_the_way_back_from_a_redirect(outside: Outside, site: Serve, canary: Canary) -> None:
    site(answers(redirect("/again")))
    outside.name("www.example.com", PUBLIC, "127.0.0.1")
    with pytest.raises(UpstreamError):
        await fetcher(canary).get(f"http://www.example.com:{canary.port}/")
    assert canary.connections == 0
    assert len(outside.dialled) == 1


async def test_mapping_the_inside_by_its_names(outside: Outside) -> None:
    """A name that exists inside and one that exists nowhere get the same answer."""
    outside.name("payroll.example.com", "10.0.0.5")
    messages = set()
    for host in ("payroll.example.com", "no-such-name.example.com"):
        with pytest.raises(InvalidInput) as caught:
            await fetcher().get(f"http://{host}/")
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert "10." not in messages.pop()


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.1:{port}/", "http://localhost:{port}/", "//127.0.0.1:{port}/", "http://[::1]:{port}/"),
        *("http://evil.example.org:{port}/", "http://2130706433:{port}/", "http://x@127.0.0.1:{port}/"),
        *(
            "http:\\\\127.0.0.1:{port}/",
            "/\\127.0.0.1:{port}/",
            "\t//127.0.0.1:{port}/",
            "http://[::ffff:7f00:1]:{port}",
        ),
        *("http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/_x"),
        *("http://[", "http://www.example.com:22/", "ftp://www.example.com/", "data:text/plain,x", "http://\xe9/"),
    ],
    ids=ascii,
)
async def test_a_redirect_to_the_inside(outside: Outside, site: Serve, canary: Canary, location: str) -> None:
    outside.name("evil.example.org", "127.0.0.1")
    outside.name("localhost", "127.0.0.1")
    data = redirect("LOCATION").replace(b"LOCATION", location.replace("{port}", str(canary.port)).encode("latin-1"))
    site(answers(data))
    with pytest.raises(UpstreamError):
        await fetcher(canary).get(SITE)
    assert canary.connections == 0
    assert outside.dialled == [(PUBLIC, 80)]


async def test_a_redirect_loop(site: Serve) -> None:
    server = site(answers(redirect("/")))
    with pytest.raises(UpstreamError):
        await fetcher().get(SITE)
    assert len(server.requests) == 4


async def test_a_redirect_from_https_to_http(outside: Outside, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = Server(answers(redirect(SITE)), context=authority.server_context("www.example.com"))
    outside.site("www.example.com", PUBLIC, server)
    both = SafeFetcher(schemes=("http", "https"), ssl_context=authority.client_context())
    with pytest.raises(UpstreamError, match="https to http"):
        await both.get("https://www.example.com/")
    server.close()
    assert outside.dialled == [(PUBLIC, 443)]


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect"])
async def test_a_redirect_makes_a_post_be_sent_elsewhere(outside: Outside, site: Serve, status: str) -> None:
    server = site(answers(redirect("http://evil.example.org/", status)))
    outside.site("evil.example.org", ANOTHER, server)
    with pytest.raises(UpstreamError):
        await fetcher().request("POST", SITE, content=b"secret")
    assert outside.dialled == [(PUBLIC, 80)]


@pytest.mark.parametrize("elsewhere", ["http://evil.example.org/", "http://www.example.com:443/"])
async def test_a_redirect_takes_the_credentials_along(outside: Outside, site: Serve, elsewhere: str) -> None:
    def answer(path: str) -> bytes:
        return {"/": redirect("/same"), "/same": redirect(elsewhere + "other")}.get(path) or reply()

    server = site(answers(answer))
    outside.site("evil.example.org", ANOTHER, server)
    names = ("Authorization", "Cookie", "X-Api-Key", "PRIVATE-TOKEN", "Proxy-Authorization")
    await fetcher().get(SITE, headers=dict.fromkeys(names, "secret") | {"Accept-Language": "mi"})
    assert [request.count(b"secret") for request in server.requests] == [5, 5, 0]
    assert server.headers()["accept-language"] == "mi"


async def test_credentials_do_not_come_back_with_a_second_redirect(outside: Outside, site: Serve) -> None:
    def answer(path: str) -> bytes:
        return {"/": redirect("http://evil.example.org/there"), "/there": redirect(SITE + "back")}.get(path) or reply()

    server = site(answers(answer))
    outside.site("evil.example.org", ANOTHER, server)
    await fetcher().get(SITE, headers={"Authorization": "secret"})
    assert [b"secret" in request for request in server.requests] == [True, False, False]


async def test_a_cookie_follows_the_fetcher_around(site: Serve) -> None:
    server = site(answers(lambda path: redirect("/next\r\nSet-Cookie: id=1") if path == "/" else reply()))
    shared = fetcher()
    await shared.get(SITE)
    await shared.get(SITE)
    assert len(server.requests) == 4
    assert not any(b"ookie" in request for request in server.requests)


# --- the environment --------------------------------------------------------------------------------------------------


async def test_a_proxy_in_the_environment(site: Serve, canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{canary.port}")
    server = site(answers(reply()))
    assert (await fetcher().get(SITE)).status == 200
    assert canary.connections == 0
    assert len(server.requests) == 1


# --- the answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"])
async def test_an_endless_body(site: Serve, head: bytes) -> None:
    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        server.send_until_closed(connection, b"x" * 65536, limit=100_000_000)

    server = site(handle)
    with pytest.raises(UpstreamError, match="larger"):
        await fetcher().get(SITE)
    assert server.sent < 20_000_000  # what fits into the buffers of two sockets


async def test_an_endless_chunked_body(site: Serve) -> None:
    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        server.send_until_closed(connection, b"10000\r\n" + b"x" * 65536 + b"\r\n", limit=100_000_000)

    server = site(handle)
    with pytest.raises(UpstreamError, match="larger"):
        await fetcher().get(SITE)
    assert server.sent < 20_000_000


@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|1\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|1;" + b"x" * 50_000 + b"\r\nx\r\n",
    ],
    ids=["interim-answers", "tiny-chunks", "chunk-extensions"],
)
async def test_much_ado_and_hardly_a_body(site: Serve, flood: bytes) -> None:
    """What is not in the body counts too: parsing it keeps the processor from everybody else."""

    def handle(connection: socket.socket, _: bytes) -> None:
        *head, piece = flood.split(b"|")
        connection.sendall(b"".join(head))
        server.send_until_closed(connection, piece * (1 + 50_000 // len(piece)), limit=100_000_000)

    server = site(handle)
    with pytest.raises(UpstreamError, match=r"too (large|many)"):
        await SafeFetcher(schemes=("http",), max_bytes=100_000).get(SITE)
    assert server.sent < 20_000_000


async def test_a_small_body_in_a_great_many_pieces(site: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    site(answers(head + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"))
    with pytest.raises(UpstreamError, match="pieces"):
        await fetcher().get(SITE)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",  # drips a body
        b"HTTP/1.1 200 OK\r\nX: ",  # drips a header
        b"",  # drips a status line
    ],
    ids=["body", "header", "status"],
)
async def test_a_server_that_drips(site: Serve, head: bytes) -> None:
    """Each byte comes well within any read time-out; only the whole takes without limit."""

    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        server.send_until_closed(connection, b"x", limit=1000, pause=0.05)

    server = site(handle)
    await _ends_in_time()


async def test_a_server_that_goes_on_being_informative(site: Serve) -> None:
    def handle(connection: socket.socket, _: bytes) -> None:
        server.send_until_closed(connection, b"HTTP/1.1 100 Continue\r\n\r\n", limit=25_000, pause=0.01)

    server = site(handle)
    await _ends_in_time()


async def test_a_server_that_says_nothing(site: Serve) -> None:
    def handle(connection: socket.socket, _: bytes) -> None:
        connection.recv(1)

    site(handle)
    await _ends_in_time()


async def test_a_name_service_that_does_not_answer(outside: Outside) -> None:
    outside.name("www.example.com", PUBLIC)
    outside.lookup_time = 1
    await _ends_in_time()


async def test_time_is_counted_over_all_redirects(site: Serve) -> None:
    def handle(connection: socket.socket, _: bytes) -> None:
        time.sleep(0.3)
        connection.sendall(redirect("/"))

    site(handle)
    await _ends_in_time()


async def _ends_in_time() -> None:
    started = time.monotonic()
    with pytest.raises(UpstreamError, match=r"0\.5 seconds"):
        await fetcher(timeout=0.5).get(SITE)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "gzip, gzip", "br", "x-gzip"])
async def test_a_decompression_bomb(site: Serve, encoding: str) -> None:
    pack = zlib.compress if encoding == "deflate" else gzip.compress
    bomb = pack(b"\0" * 10_000_000)
    server = site(answers(reply(bomb, f"Content-Encoding: {encoding}")))
    with pytest.raises(UpstreamError, match="compress"):
        await fetcher().get(SITE)
    assert server.headers()["accept-encoding"] == "identity"


@pytest.mark.parametrize("line", [b"X-Filler: " + b"x" * 1000 + b"\r\n", b"y" * 1000], ids=["many", "one"])
async def test_endless_headers(site: Serve, line: bytes) -> None:
    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        server.send_until_closed(connection, line * 100, limit=100_000_000)

    server = site(handle)
    with pytest.raises(UpstreamError):
        await fetcher().get(SITE)
    assert server.sent < 20_000_000


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
)
async def test_an_answer_that_is_not_http(site: Serve, data: bytes) -> None:
    site(answers(data))
    with pytest.raises(UpstreamError):
        await fetcher().get(SITE)


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\0b", "a\x7f", "\u2028", "\u560d\u560a"])
async def test_a_header_value_with_a_line_break(outside: Outside, site: Serve, value: str) -> None:
    site(answers(reply()))
    with pytest.raises(ConfigurationError):
        await fetcher().get(SITE, headers={"X-Name": value})
    assert outside.dialled == []


@pytest.mark.parametrize("name", ["X\r\nX-Injected", "X:", "X Y", "", "X\u00e9"])
async def test_a_header_name_that_is_none(site: Serve, name: str) -> None:
    server = site(answers(reply()))
    with pytest.raises(ConfigurationError):
        await fetcher().get(SITE, headers={name: "1"})
    assert server.requests == []


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certified", "trusted"),
    [("other.example.com", True), ("*.com", True), ("www.example.com", False)],
    ids=["another-name", "too-wide", "unknown-authority"],
)
async def test_a_server_that_is_not_who_it_says(
    outside: Outside, tmp_path: Path, certified: str, trusted: bool
) -> None:
    authority = Authority(tmp_path)
    server = Server(answers(reply()), context=authority.server_context(certified))
    outside.site("www.example.com", PUBLIC, server)
    checking = SafeFetcher(ssl_context=authority.client_context() if trusted else None)
    with pytest.raises(UpstreamError):
        await checking.get("https://www.example.com/", headers={"Authorization": "secret"})
    server.close()
    assert outside.dialled == [(PUBLIC, 443)]
    assert server.requests == []


async def test_an_allowed_network_does_not_open_its_neighbours(outside: Outside, canary: Canary) -> None:
    inside = SafeFetcher(schemes=("http",), ports={canary.port}, networks=[ip_network("10.0.0.0/8")])
    outside.name("localhost", "127.0.0.1")
    outside.name("wiki.internal", ("10.0.0.5", "127.0.0.1"))
    for host in ("127.0.0.1", "localhost", "wiki.internal", "[::ffff:127.0.0.1]"):
        with pytest.raises(InvalidInput):
            await inside.get(f"http://{host}:{canary.port}/")
    assert canary.connections == 0
    assert outside.dialled == []


# --- behind a proxy, which resolves the names ---


@pytest.mark.parametrize(
    "inside",
    [
        *("https://127.0.0.1/", "https://169.254.169.254/latest/", "https://[::ffff:10.0.0.1]/", "https://localhost/"),
        *("https://metadata.google.internal/", "https://printer/", "http://www.example.com/", "https://2130706433/"),
        "https://www.example.com:22/",
    ],
)
async def test_what_the_text_shows_to_be_inside_does_not_reach_the_proxy(
    outside: Outside, tmp_path: Path, inside: str
) -> None:
    """Neither from the caller nor from a redirect. A name that leads inside is for the proxy to refuse."""
    authority = Authority(tmp_path)
    evil = Server(answers(redirect(inside)), context=authority.server_context("www.example.com"))
    with running_proxy({"www.example.com:443": evil.port, "10.0.0.1:443": evil.port}) as proxy:
        through = SafeFetcher(proxy=proxy.url, ssl_context=authority.client_context())
        with pytest.raises(InvalidInput):
            await through.get(inside)
        assert proxy.asked == []
        with pytest.raises(UpstreamError, match="redirects to a URL that is not allowed"):
            await through.get("https://www.example.com/")
        assert proxy.asked == ["www.example.com:443"]
    evil.close()


async def test_a_name_is_the_proxys_to_resolve_and_to_refuse(outside: Outside) -> None:
    outside.name("inside.example.com", "10.0.0.1")
    with running_proxy({}) as proxy:
        with pytest.raises(UpstreamError) as error:
            await SafeFetcher(proxy=proxy.url).get("https://inside.example.com/")
        assert proxy.asked == ["inside.example.com:443"]
    assert error.value.cause == "ProxyError (403)"
    assert outside.lookups == []
    assert [host for host, _ in outside.dialled] == ["127.0.0.1"], "the proxy alone"


async def test_a_proxy_that_is_assigned_later_does_not_switch_the_check_off(outside: Outside, canary: Canary) -> None:
    outside.name("inside.example.com", "127.0.0.1")
    inside = f"http://inside.example.com:{canary.port}/"
    for assign in (setattr, object.__setattr__):
        safe = fetcher(canary)
        with suppress(FrozenInstanceError):
            assign(safe, "proxy", "http://127.0.0.1:1")
        with pytest.raises(InvalidInput, match="no public address"):
            await safe.get(inside)
    assert canary.connections == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        *(({"timeout": timeout}, "timeout") for timeout in (math.nan, math.inf, 0, -1)),
        *(({"max_bytes": 0}, "max_bytes"), ({"max_redirects": -1}, "max_redirects")),
    ],
)
def test_a_limit_that_limits_nothing_is_refused_by_its_name(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        SafeFetcher(**options)
