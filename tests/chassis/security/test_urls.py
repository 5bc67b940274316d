"""The pure check of a URL: what it refuses, what it lets pass, and what it says."""

import string
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.sinks import ConfigurationError, InvalidInput, validate_url
from mcp_chassis.sinks.urls import parse_url, read_url

LEGITIMATE = (
    "https://example.com",
    "https://example.com/",
    "https://EXAMPLE.com/Path",
    "https://www.example.co.uk/a/b.html?q=1&r=2#part",
    "https://example.com?q=1",
    "https://example.com:443/x",
    "https://example.com/?next=https://other.example.org/",
    "https://example.com/@user/post",
    "https://example.com/a?mail=a@b.c",
    "https://example.com/a;b=c/(d)/e,f!g*'h'",
    "https://example.com/a%20b/%C3%A9t%C3%A9?x=%E2%82%AC",
    "https://example.com/list?ids[]=1&ids[]=2",
    "https://xn--mnchen-3ya.example.org/",
    "https://my_bucket.s3.example.com/",
    "https://127.0.0.1.example.com/",
    "https://8.8.8.8/",
    "https://[2606:4700:4700::1111]/",
    "https://[2606:4700:4700::1111]:443/",
    "https://a.b.c.d.e.f.example.com/",
    "https://3com.com/",
    "https://0xdeadbeef.example.com/",
    "https://localhost.example.com/",
    "https://example.com//double//slashes",
    "https://example.com/a:b@c:80",
)

# The host is this machine, a neighbour or a metadata service, and does not look like it.
DISGUISED = (
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0X7F.1/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.0.0.0x1/",
    "https://127.0.0.01/",
    "https://0/",
    "https://0x/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://168.63.129.16/",
    "https://4294967296/",
    "https://127.0.0.1./",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:ffff:169.254.169.254]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:7f00:1::]/",
    "https://[::127.0.0.1]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[fd00:ec2::254]/",
    "https://[127.0.0.1]/",
    "https://[8.8.8.8]/",
    "https://[v1.fe80::1]/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://a.localhost/",
    "https://intranet/",
    "https://printer.local/",
    "https://metadata.google.internal/",
    "https://router.home.arpa/",
)

# One parser reads another host than the next one (A New Era of SSRF, Tsai 2017; CVE-2022-27780; CVE-2023-24329).
AMBIGUOUS = (
    "https://user@example.com/",
    "https://user:password@example.com/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1@example.com/",
    "https://@example.com/",
    "https://example.com:443@127.0.0.1/",
    "https://example.com#@127.0.0.1/",
    "https://127.0.0.1#@example.com/",
    "https://example.com?@127.0.0.1/",
    "HTTPS://example.com?@127.0.0.1/",
    "https://example.com%40127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://127.0.0.1\\.example.com/",
    "https:\\\\127.0.0.1/",
    "https:/\\127.0.0.1/",
    "https://example.com\\.evil.example.org/",
    "https:///127.0.0.1/",
    "https:127.0.0.1/",
    "https:/127.0.0.1/",
    "//127.0.0.1/",
    "127.0.0.1",
    "example.com",
    "https://",
    "https:///",
    "https://:443/",
    "https://%31%32%37.0.0.1/",
    "https://127%2e0%2e0%2e1/",
    "https://example.com%2f@127.0.0.1/",
    "https://example.com%00.evil.example.org/",
    "https://exam\tple.com/",
    "https://example.com\n/",
    "https://example.com/\r\nHost: 127.0.0.1",
    "https://example.com /",
    " https://example.com/",
    "\x00https://example.com/",
    "https://example.com/\x7f",
    "https://example.com/a b",
    "https://１２７.0.0.1/",
    "https://127。0。0。1/",
    "https://127．0．0．1/",
    "https://①②⑦.0.0.1/",
    "https://ⓛocalhost/",
    "https://exampl\u00e9.com/",
    "https://example.com/\u00e9",
    "https://example.com\u200b/",
    "https://example.com\u2044@127.0.0.1/",
    "https://loc\u00adalhost/",
    "httpſ://example.com/",
    "https://example..com/",
    "https://.example.com/",
    "https://-example.com/",
    "https://example-.com/",
    "https://example.com./",
    "https://[::1/",
    "https://::1/",
    "https://[[::1]]/",
    "https://[:::]/",
    "https://[::1]127.0.0.1/",
    "https://example.com[::1]/",
    "https://" + "a" * 64 + ".com/",
    "https://" + "a." * 127 + "com/",
)

PORTS = (
    "https://example.com:22/",
    "https://example.com:80/",
    "https://example.com:6379/",
    "https://example.com:0/",
    "https://example.com:65979/",  # 443 + 65536
    "https://example.com:-443/",
    "https://example.com:+443/",
    "https://example.com:4_43/",
    "https://example.com:0x1bb/",
    "https://example.com:443:80/",
    "https://example.com:/",
    "https://example.com:443abc/",
    "https://example.com:٤٤٣/",
    "https://example.com:0443/",
    "https://example.com:000443/",
)

SCHEMES = (
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "file://example.com/etc/passwd",
    "gopher://example.com:70/_x",
    "dict://example.com:2628/",
    "ldap://example.com/",
    "data:text/html,x",
    "javascript:alert(1)",
    "jar:https://example.com!/",
    "url:https://example.com/",
    "unix:/var/run/docker.sock",
    "",
)


@pytest.mark.parametrize("url", LEGITIMATE)
def test_legitimate_urls_come_back_unchanged(url: str) -> None:
    assert validate_url(url) == url


@pytest.mark.parametrize("url", DISGUISED)
def test_an_internal_host_in_disguise(url: str) -> None:
    with pytest.raises(InvalidInput):
        validate_url(url)
    with pytest.raises(InvalidInput):
        validate_url(url.replace("https:", "http:"), schemes=("http", "https"))


@pytest.mark.parametrize("url", AMBIGUOUS, ids=ascii)
def test_a_url_that_two_parsers_read_in_two_ways(url: str) -> None:
    with pytest.raises(InvalidInput):
        validate_url(url)


@pytest.mark.parametrize("url", PORTS, ids=ascii)
def test_a_port_of_another_service(url: str) -> None:
    with pytest.raises(InvalidInput):
        validate_url(url)


@pytest.mark.parametrize("url", SCHEMES, ids=ascii)
def test_another_scheme(url: str) -> None:
    with pytest.raises(InvalidInput, match="must start with https://"):
        validate_url(url)


def test_ports_and_schemes_can_be_allowed() -> None:
    assert validate_url("https://example.com:8443/", ports={443, 8443})
    assert validate_url("http://example.com:80/", schemes=("http", "https"))
    assert validate_url("HTTP://example.com/", schemes=("http",))
    with pytest.raises(InvalidInput):
        validate_url("https://example.com/", ports={8443})
    with pytest.raises(InvalidInput):
        validate_url("http://example.com:443/", schemes=("http",))


def test_a_scheme_without_a_default_port_is_allowed_without_a_port_only() -> None:
    assert validate_url("ftp://example.com/", schemes=["ftp"])
    for port in (1, 21, 65_535):
        with pytest.raises(InvalidInput, match="port is not allowed"):
            validate_url(f"ftp://example.com:{port}/", schemes=["ftp"])
        assert validate_url(f"ftp://example.com:{port}/", schemes=["ftp"], ports=[port])


def test_length() -> None:
    url = "https://example.com/".ljust(2048, "a")
    assert validate_url(url) == url
    with pytest.raises(InvalidInput, match="2048"):
        validate_url(url + "a")
    with pytest.raises(InvalidInput):
        validate_url(url, max_length=100)


@pytest.mark.parametrize("url", [*DISGUISED, *AMBIGUOUS, *PORTS, *SCHEMES], ids=ascii)
def test_the_message_does_not_echo_the_url(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_url(url)
    message = str(caught.value)
    assert message.isascii()
    assert len(message) < 150
    assert not any(part in message for part in url.split("/") if len(part) > 6)


def test_the_parts_are_those_that_are_dialled() -> None:
    target = read_url("HTTPS://Example.COM/A?b#c", schemes=("https",))
    assert (target.scheme, target.host, target.port, target.path) == ("https", "example.com", 443, "/A?b")
    assert (target.authority, target.origin) == ("example.com", "https://example.com")
    target = read_url("https://[2606:4700:0::1]:8443?q", schemes=("https",), ports={8443})
    assert (target.host, target.path, target.authority) == ("[2606:4700::1]", "/?q", "[2606:4700::1]:8443")


@given(st.text(alphabet=string.printable + "。．１٠é\u200b\ud800", max_size=30))
def test_any_text_is_refused_or_read_as_a_public_host(text: str) -> None:
    for url in (text, f"https://{text}", f"https://{text}.example.com/", f"https://example.com{text}"):
        try:
            validate_url(url)
        except InvalidInput:
            continue
        target = read_url(url, schemes=("https",))
        assert target.port == 443
        assert set(target.host) <= set(string.ascii_lowercase + string.digits + ".-_:[]")


def test_schemes_work_positionally_as_in_the_guide() -> None:
    assert validate_url("https://example.com/", ["https"])
    assert validate_url("http://example.com/", ("http", "https"))
    with pytest.raises(InvalidInput):
        validate_url("http://example.com/", ["https"])


@pytest.mark.parametrize("schemes", ["https", "http", ["HTTPS"], ["https://"], [""]])
def test_schemes_that_are_none_are_the_authors_mistake(schemes: Any) -> None:
    """`http` is in the text `https`: a text would allow what it does not name."""
    with pytest.raises(ConfigurationError):
        validate_url("http://example.com/", schemes)


def test_a_name_has_at_most_253_characters() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert validate_url(f"https://{longest}/")
    with pytest.raises(InvalidInput, match="not a valid name"):
        validate_url(f"https://{longest}b/")


def test_a_url_has_at_most_2048_characters() -> None:
    longest = "https://example.com/".ljust(2048, "a")
    assert validate_url(longest)
    for read in (validate_url, parse_url, partial(read_url, schemes=("https",))):
        read(longest)
        with pytest.raises(InvalidInput, match="longer than 2048"):
            read(f"{longest}a")
