"""The one way of untrusted text to an output: secrets out, then clean, then cut; and nothing else is touched."""

import base64
import json
import secrets
import string
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_chassis.events import untrusted
from mcp_chassis.events.untrusted import add_secrets, declare, named, redact, shown
from mcp_chassis.http import current_request as request_context

SECRET = "Qz7" + secrets.token_urlsafe(32)
AWKWARD = 'Zx9"\\é+/ ' + secrets.token_urlsafe(24)
PHRASE = "the security event log of correct horses and batteries"


@pytest.fixture(scope="module", autouse=True)
def _of_the_process() -> None:
    add_secrets([SECRET, AWKWARD, PHRASE, "a", ""])


@pytest.fixture
def presented() -> Iterator[str]:
    """A credential that the request being served has presented, and that no setting knows."""
    token = secrets.token_urlsafe(32)
    headers = [(b"authorization", b"Bearer " + token.encode())]
    before = request_context.current_request.set(request_context.RequestContext("request-1", "192.0.2.1", headers))
    yield token
    request_context.current_request.reset(before)


@pytest.mark.parametrize("start", range(8))
@pytest.mark.parametrize("length", [8, 9, 12, 20, 35])
@pytest.mark.parametrize("before", range(5))
def test_a_piece_is_found_wherever_it_begins(start: int, length: int, before: int) -> None:
    text = "." * before + SECRET[start : start + length] + "!"
    assert redact(text) == "." * before + "[redacted]!"


@pytest.mark.parametrize(
    "form", [AWKWARD, json.dumps(AWKWARD)[1:-1], quote(AWKWARD, safe="")], ids=["plain", "JSON", "URL"]
)
def test_a_secret_is_found_in_every_form_in_which_it_can_stand_in_a_line(form: str) -> None:
    assert redact(f"a {form} b") == "a [redacted] b"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "/security/events",
        "Zoë Müller, 你好, \U0001f44d\U0001f3fd, مرحبا",
        '{"logger":"security","event":"security_event","severity":"high","client":"127.0.0.1"}',
        SECRET[:7] + " " + SECRET[7:14],
        "eyJ is how the JSON of a token begins, and mcp_ an API key",
        "redis://localhost:6379/0",
    ],
    ids=range(8),
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text
    assert shown(text) == text


def test_a_pass_phrase_is_found_as_a_whole_and_its_words_are_left_alone() -> None:
    assert redact(f"a: {PHRASE}") == "a: [redacted]"
    assert redact("the security event log") == "the security event log"


@pytest.mark.parametrize("cut", [25, 40, 64])
def test_a_key_that_was_cut_still_looks_like_one(cut: int) -> None:
    key = f"mcp_a1b2c3d4e5_{'Ab3' * 16}"
    assert redact(f"a {key[:cut]}") == "a [redacted]"


def test_a_key_of_another_servers_env_looks_like_one() -> None:
    assert redact(f"a mcp_{secrets.token_urlsafe(32)} b") == "a [redacted] b"


def test_a_presented_credential_is_redacted_in_what_its_request_leaves(presented: str) -> None:
    for length in range(150, 201):
        assert presented[:8] not in shown("a" * length + presented)
    assert shown(f"/{presented[10:30]}") == "/[redacted]"


class Counted(set[str]):
    """Counts how often it is asked."""

    asked = 0

    def __contains__(self, piece: object) -> bool:
        self.asked += 1
        return super().__contains__(piece)


@pytest.mark.parametrize(
    "text", ["a" * 800, "".join(chr(97 + n * n % 26) for n in range(800)), "ab1" * 266], ids=range(3)
)
def test_the_work_is_linear_whatever_text_and_secret_have_in_common(text: str) -> None:
    """A client chooses both: its path, and the cookie that its path is searched for."""
    pieces = Counted(text[index : index + 8] for index in range(len(text) - 7))
    untrusted._without_pieces(text, pieces)
    assert 790 < pieces.asked < 2 * len(text)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_percent_escapes_do_not_hide_a_secret(times: int) -> None:
    text = "".join(f"%{ord(character):02x}" for character in SECRET)
    for _ in range(times - 1):
        text = text.replace("%", "%25")
    assert shown(f"/{text}") == "[redacted]"


def test_text_is_cleaned_and_then_cut() -> None:
    assert shown("a\nb\x1b[2J\u202e\ud800") == "a\\nb\\x1b[2J\\u202e\\ud800"
    assert len(shown("\n" * 1000)) == 200


def test_a_declared_name_is_written_and_another_one_described() -> None:
    declare({"hello_world"})
    assert named("hello_world") == "hello_world"
    assert named("hello-world").startswith("(unknown: 11 characters, ")
    assert named("\ud800") == named("\ud800") != named("\ud801")
    assert len(named("x" * 100_000)) < 64


@settings(max_examples=200, deadline=None)
@given(
    secret=st.text("+/-_=", min_size=7, max_size=30)
    | st.text(string.ascii_letters + string.digits + "+/-_=.~!$ ü", min_size=7, max_size=60)
    | st.text("ûûþÿ?>~ﾾ", min_size=7, max_size=30)  # base64 of these holds many `+` and `/`
    | st.binary(min_size=7, max_size=40).map(lambda data: base64.b64encode(data).decode()),
    beside=st.text("ab+/ -_x", max_size=10),
    shift=st.integers(0, 2),
)
def test_a_secret_of_any_characters_is_found_in_each_of_its_forms(secret: str, beside: str, shift: int) -> None:
    """Also one of the two characters that the two alphabets of base64 differ in."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_secrets", "_blocks"):
            patch.setattr(untrusted, name, set())
        for name in ("_folded", "_joined"):
            patch.setattr(untrusted, name, ())
        add_secrets([secret])
        data = secret.encode()
        coded = base64.b64encode(bytes(shift) + data + bytes(3)).decode()
        forms = [secret, json.dumps(secret)[1:-1], quote(secret, safe=""), data.hex(), data.hex(" ").upper(), coded]
        forms += [
            coded.replace("+", "-").replace("/", "_"),
            "\\n".join(coded[i : i + 19] for i in range(0, len(coded), 19)),
        ]
        for form in forms:
            assert untrusted.holds_secret(f"{beside}{form}{beside}".encode()), form
        assert not untrusted.holds_secret(b"[1, 2, 3]")
