"""URLs of public hosts, read in one way only."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from {{ cookiecutter.package_name }}.security import InvalidInput, validate_url


@pytest.mark.parametrize(
    "url",
    [
        "https://www.python.org",
        "https://www.python.org/a/b.html?q=1&r=%20#top",
        "https://www.python.org:8443/",
        "https://www.python.org./",
        "https://xn--bcher-kva.de/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "https://a_b.python.org/",
    ],
)
def test_public_hosts_pass_as_they_are(url: str) -> None:
    assert validate_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must start with"),
        ("www.python.org", "must start with"),
        ("http://www.python.org", "must start with https://"),
        ("file:///etc/passwd", "must start with"),
        ("javascript:alert(1)", "must start with"),
        ("https:///path", "host"),
        ("https://", "host"),
        ("https://user@www.python.org", "user name"),
        ("https://user:hunter2@www.python.org", "user name"),
        ("https://www.python.org@evil.com", "user name"),
        ("https://www.python.org:0/", "port 0"),
        ("https://www.python.org:99999/", "parsed"),
        ("https://[::1", "parsed"),
        ("https://localhost/", "local name"),
        ("https://LOCALHOST./", "local name"),
        ("https://a.localhost/", "local name"),
        ("https://intranet/", "local name"),
        ("https://metadata.google.internal/", "local name"),
        ("https://printer.local/", "local name"),
        ("https://127.0.0.1/", "not public"),
        ("https://10.0.0.1/", "not public"),
        ("https://169.254.169.254/latest/meta-data", "not public"),
        ("https://100.64.0.1/", "not public"),
        ("https://0.0.0.0/", "not public"),
        ("https://224.0.0.1/", "not public"),
        ("https://[::1]/", "not public"),
        ("https://[fe80::1]/", "not public"),
        ("https://[fd00::1]/", "not public"),
        ("https://[::ffff:127.0.0.1]/", "not public"),
        ("https://2130706433/", "unusual form"),
        ("https://0x7f.1/", "unusual form|local name"),
        ("https://0177.0.0.1/", "unusual form"),
        ("https://127.1/", "unusual form"),
        ("https://0x7f000001/", "unusual form"),
        ("https://-a.python.org/", "not a valid name"),
        ("https://a..python.org/", "not a valid name"),
        ("https://www.python.org\\@evil.com/", "backslash"),
        ("https://www.python.org/a b", "space"),
        ("https://www.python.org/\n", "control"),
        ("https://bücher.de/", "escaping"),
        ("https://www.python.org/" + "a" * 2048, "longer than 2048"),
    ],
)
def test_everything_else_is_refused_without_repeating_it(url: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refusal:
        validate_url(url)
    assert "hunter2" not in str(refusal.value)
    assert "python.org" not in str(refusal.value)


def test_other_schemes_can_be_allowed() -> None:
    assert validate_url("http://www.python.org/", schemes=("https", "http"))
    with pytest.raises(InvalidInput, match="https:// or http://"):
        validate_url("ftp://www.python.org/", schemes=("https", "http"))


@given(st.ip_addresses().map(lambda address: f"[{address}]" if address.version == 6 else str(address)))
def test_an_address_that_passes_is_global(host: str) -> None:
    try:
        validate_url(f"https://{host}/")
    except InvalidInput:
        return
    assert not host.startswith(("127.", "10.", "192.168.", "169.254.", "0.", "[fe8", "[fc", "[fd", "[::1]", "[ff"))


@given(st.text("abc.:/@[]%#?-0123456789xX", max_size=20))
def test_whatever_passes_names_a_host_with_a_dot_or_an_address(rest: str) -> None:
    try:
        url = validate_url(f"https://{rest}")
    except InvalidInput:
        return
    parts = urlsplit(url)
    assert parts.username is None
    assert "." in (parts.hostname or "") or ":" in (parts.hostname or "")
