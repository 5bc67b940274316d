"""The safe fetcher does what a fetcher is for. What it refuses is in tests/attacks/test_fetch.py."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from mcp_chassis.sinks import ConfigurationError, Fetched, InvalidInput, SafeFetcher, Upstream, UpstreamError
from mcp_chassis.sinks.http import HttpClient

from ..support.certificates import Authority
from ..support.outside import ANOTHER, PUBLIC, Handler, Outside, Server, answers, redirect, reply
from ..support.proxy import running_proxy

pytestmark = pytest.mark.anyio

Serve = Callable[[Handler], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(handler: Handler) -> Server:
        servers.append(Server(handler))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def fetcher(**options: object) -> SafeFetcher:
    return SafeFetcher(schemes=("http",), **options)  # type: ignore[arg-type]


async def test_a_page_over_https(outside: Outside, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = Server(answers(reply(b"secret")), context=authority.server_context("www.example.com"))
    outside.site("www.example.com", PUBLIC, server)
    page = await SafeFetcher(ssl_context=authority.client_context()).get("https://www.example.com/a?b=c#d")
    server.close()
    assert (page.status, page.body, page.url) == (200, b"secret", "https://www.example.com/a?b=c")
    assert outside.dialled == [(PUBLIC, 443)]
    assert outside.lookups == ["www.example.com"]
    assert server.requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert server.headers()["host"] == "www.example.com"


async def test_what_is_sent(outside: Outside, serve: Serve) -> None:
    server = serve(answers(reply()))
    outside.site("www.example.com", PUBLIC, server)
    await fetcher(ports={8080}).get(
        "http://www.example.com:8080", headers={"Accept": "text/html", "X-Api-Key": "k", "Host": "other", "COOKIE": "c"}
    )
    assert server.headers() == {
        "host": "www.example.com:8080",
        "connection": "close",
        "accept-encoding": "identity",
        "accept": "text/html",
        "x-api-key": "k",
        "cookie": "c",
    }


async def test_what_comes_back(outside: Outside, serve: Serve) -> None:
    server = serve(answers(reply(b"", "X-One: 1", "Set-Cookie: a=b", status="404 Not Found")))
    outside.site("www.example.com", PUBLIC, server)
    page = await fetcher().get("http://www.example.com/")
    assert (page.status, page.body, page.text()) == (404, b"", "")
    assert page.headers["x-one"] == "1"
    with pytest.raises(FrozenInstanceError):
        page.status = 200  # type: ignore[misc]


async def test_head_and_post(outside: Outside, serve: Serve) -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        if head.startswith(b"POST"):
            body = head.partition(b"\r\n\r\n")[2]
            while len(body) < int(server.headers()["content-length"]):
                body += connection.recv(100)
            connection.sendall(reply(b"got " + body))
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\nContent-Encoding: gzip\r\n\r\n")

    server = serve(handle)
    outside.site("www.example.com", PUBLIC, server)
    page = await fetcher().request("HEAD", "http://www.example.com/")
    assert (page.headers["content-length"], page.body) == ("5000000", b"")
    page = await fetcher().request("POST", "http://www.example.com/", content=b"data")
    assert page.body == b"got data"


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/html; charset=ISO-8859-1", b"\xe9", "é"),
        ('text/html; charset="windows-1251"; x=y', b"\xcf", "П"),
        ("text/html", "é".encode(), "é"),
        ("text/html; charset=no-such", b"\xff", "\ufffd"),
        ("text/html; charset=punycode", b"maana-pta", "maana-pta"),  # takes quadratic time
        ("text/html; charset=unicode_escape", rb"\x41", r"\x41"),
        ("text/html; charset=hex", b"41", "41"),
    ],
)
def test_text(content_type: str, body: bytes, text: str) -> None:
    assert Fetched(200, {"content-type": content_type}, body, "https://example.com/").text() == text


async def test_the_next_address_is_tried_if_one_does_not_answer(outside: Outside, serve: Serve) -> None:
    outside.name("www.example.com", (ANOTHER, "2606:4700::1", PUBLIC))
    outside.place(PUBLIC, serve(answers(reply())))
    assert (await fetcher().get("http://www.example.com/")).status == 200
    assert outside.dialled == [(ANOTHER, 80), ("2606:4700::1", 80), (PUBLIC, 80)]


async def test_an_address_instead_of_a_name(outside: Outside, serve: Serve) -> None:
    server = serve(answers(reply()))
    outside.place(PUBLIC, server)
    assert (await fetcher().get(f"http://{PUBLIC}/")).status == 200
    assert server.headers()["host"] == PUBLIC
    assert outside.lookups == []


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
async def test_an_ipv6_address_instead_of_a_name(outside: Outside, serve: Serve) -> None:
    server = serve(answers(reply()))
    outside.place("2606:4700::1111", server)
    assert (await fetcher(ports={8080}).get("http://[2606:4700::1111]:8080/")).status == 200
    assert server.headers()["host"] == "[2606:4700::1111]:8080"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_followed(outside: Outside, serve: Serve, status: str) -> None:
    pages = {"/": redirect("next?x#y", status), "/next?x": redirect("//b.example.com/z", status), "/z": reply(b"end")}
    server = serve(answers(pages.__getitem__))
    outside.site("www.example.com", PUBLIC, server)
    outside.site("b.example.com", ANOTHER, server)
    page = await fetcher().get("http://www.example.com")
    assert (page.body, page.url) == (b"end", "http://b.example.com/z")
    assert outside.dialled == [(PUBLIC, 80), (PUBLIC, 80), (ANOTHER, 80)]


async def test_three_redirects_are_followed_and_not_four(outside: Outside, serve: Serve) -> None:
    server = serve(answers(lambda path: reply(b"end") if path == "/0" else redirect(f"/{int(path[1:]) - 1}")))
    outside.site("www.example.com", PUBLIC, server)
    assert (await fetcher().get("http://www.example.com/3")).body == b"end"
    with pytest.raises(UpstreamError, match="3 times"):
        await fetcher().get("http://www.example.com/4")
    assert len(server.requests) == 8


async def test_a_redirect_can_be_returned_instead(outside: Outside, serve: Serve) -> None:
    outside.site("www.example.com", PUBLIC, serve(answers(redirect("http://other.example.com/"))))
    page = await fetcher(max_redirects=0).get("http://www.example.com/")
    assert (page.status, page.headers["location"]) == (302, "http://other.example.com/")


async def test_internal_networks_may_be_allowed(outside: Outside, serve: Serve) -> None:
    server = serve(answers(reply()))
    outside.site("wiki", "10.1.2.3", server)
    outside.name("other", "10.2.0.1")
    inside = fetcher(networks=[ip_network("10.1.0.0/16")])
    assert (await inside.get("http://wiki/")).status == 200
    assert (await inside.get("http://10.1.2.3/")).status == 200
    for url in ("http://other/", "http://10.2.0.1/", "http://127.0.0.1/"):
        with pytest.raises(InvalidInput):
            await inside.get(url)
    assert {host for host, _ in outside.dialled} == {"10.1.2.3"}


async def test_a_body_of_just_the_size(outside: Outside, serve: Serve) -> None:
    outside.site("www.example.com", PUBLIC, serve(answers(reply(b"x" * 1000))))
    assert len((await fetcher(max_bytes=1000).get("http://www.example.com/")).body) == 1000
    with pytest.raises(UpstreamError, match="999 bytes"):
        await fetcher(max_bytes=999).get("http://www.example.com/")


async def test_a_truncated_answer_is_not_an_answer(outside: Outside, serve: Serve) -> None:
    outside.site("www.example.com", PUBLIC, serve(answers(reply(b"x" * 1000)[:-1])))
    with pytest.raises(UpstreamError):
        await fetcher().get("http://www.example.com/")


async def test_a_refused_connection(outside: Outside) -> None:
    outside.name("www.example.com", (PUBLIC, ANOTHER))
    with pytest.raises(UpstreamError, match="does not answer"):
        await fetcher().get("http://www.example.com/")


class Proxy:
    """An egress proxy: CONNECT for https, an absolute URL for http."""

    def __init__(self, authority: Authority, host: str) -> None:
        context = authority.server_context(host)

        def handle(connection: socket.socket, head: bytes) -> None:
            if head.startswith(b"CONNECT"):
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                with context.wrap_socket(connection, server_side=True) as inner:
                    self.server.read_head(inner)
                    inner.sendall(reply(b"through the tunnel"))
            else:
                connection.sendall(reply(b"forwarded"))

        self.server = Server(handle)

    @property
    def lines(self) -> list[bytes]:
        return [head.partition(b"\r\n")[0] for head in self.server.requests]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def proxy(authority: Authority) -> Iterator[Proxy]:
    proxy = Proxy(authority, "www.example.com")
    yield proxy
    proxy.server.close()


async def test_an_egress_proxy_resolves_and_dials(outside: Outside, authority: Authority, proxy: Proxy) -> None:
    through = SafeFetcher(
        schemes=("http", "https"),
        proxy=f"http://me:secret@127.0.0.1:{proxy.server.port}",
        ssl_context=authority.client_context(),
    )
    page = await through.get("https://www.example.com/a", headers={"Authorization": "Bearer x"})
    assert page.body == b"through the tunnel"
    assert proxy.lines == [b"CONNECT www.example.com:443 HTTP/1.1", b"GET /a HTTP/1.1"]
    assert "authorization" not in proxy.server.headers(0)
    assert proxy.server.headers(0)["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    assert "proxy-authorization" not in proxy.server.headers(1)
    assert (await through.get("http://www.example.com/b")).body == b"forwarded"
    assert proxy.lines[-1] == b"GET http://www.example.com:80/b HTTP/1.1"
    assert outside.lookups == []
    assert {host for host, _ in outside.dialled} == {"127.0.0.1"}


async def test_a_tunnel_to_an_ipv6_address_keeps_its_brackets(
    outside: Outside, authority: Authority, proxy: Proxy
) -> None:
    through = SafeFetcher(proxy=f"http://127.0.0.1:{proxy.server.port}", ssl_context=authority.client_context())
    with pytest.raises(UpstreamError):  # the certificate names another host
        await through.get("https://[2606:4700::1111]/")
    assert proxy.lines[0] == b"CONNECT [2606:4700::1111]:443 HTTP/1.1"


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://a.internal/", "https://10.0.0.1/"]
)
async def test_what_the_text_gives_away_does_not_reach_the_proxy(outside: Outside, proxy: Proxy, url: str) -> None:
    for networks in ((), (ip_network("10.1.0.0/16"),)):
        through = SafeFetcher(proxy=f"http://127.0.0.1:{proxy.server.port}", networks=networks)
        if networks and not url[8].isdigit() and "[" not in url:
            continue  # an internal name may be in an allowed network: the proxy will know
        with pytest.raises(InvalidInput):
            await through.get(url)
    assert outside.dialled == []


async def test_a_file_of_authorities_replaces_those_of_the_system(
    outside: Outside, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "company.pem").write_bytes(authority.pem)
    server = Server(answers(reply(b"inside")), context=authority.server_context("www.example.com"))
    outside.site("www.example.com", PUBLIC, server)
    page = await SafeFetcher(ca_file=tmp_path / "company.pem").get("https://www.example.com/")
    assert page.body == b"inside"
    with pytest.raises(UpstreamError):
        await SafeFetcher().get("https://www.example.com/")
    server.close()


async def test_a_proxy_that_speaks_tls(outside: Outside, authority: Authority) -> None:
    """Its own certificate is for its own name, not for that of the server behind it."""
    server = Server(answers(reply(b"inside")), context=authority.server_context("www.example.com"))
    outside.name("proxy.internal", "127.0.0.1")
    with running_proxy({"www.example.com:443": server.port}, context=authority.server_context("proxy.internal")) as tls:
        through = SafeFetcher(proxy=f"https://proxy.internal:{tls.port}", ssl_context=authority.client_context())
        assert (await through.get("https://www.example.com/")).body == b"inside"
    assert outside.lookups == ["proxy.internal"]
    server.close()


@pytest.mark.parametrize(
    "options", [{"proxy": "proxy:3128"}, {"proxy": "socks5://me:hunter2@proxy"}, {"proxy": "http://"}]
)
async def test_a_proxy_that_is_none_is_refused_at_once(options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="of the form http://host:port") as error:
        SafeFetcher(**options)  # type: ignore[arg-type]
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_without_authorities_is_refused_at_once(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "company.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read, or holds no certificate in PEM form"):
        SafeFetcher(ca_file=file)


@pytest.mark.parametrize(
    "client",
    [SafeFetcher(), Upstream("https://stock.internal"), Upstream("https://stock.internal", proxy="http://a:1")],
)
def test_an_attribute_of_a_client_cannot_be_changed(client: HttpClient) -> None:
    for field in fields(client):
        before = getattr(client, field.name)
        with pytest.raises(FrozenInstanceError, match=f"^{field.name} cannot be changed: make another"):
            setattr(client, field.name, before)
    client.get = None  # as a test's stub
