"""Short human text: names of the world pass, what shells and terminals act upon does not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from {{ cookiecutter.package_name }}.security import InvalidInput, sanitize_input


@pytest.mark.parametrize(
    "text",
    [
        "",
        "World",
        "Zoë O'Brien-Núñez",
        "D’Angelo",
        "Jürgen Müller & Söhne (GmbH), Straße 5/2",
        "c/o R. Roe, #12",
        "dr.who+mcp@example.com",
        "Łukasz Żółć",
        "Владимир Ильич",
        "Ελένη",
        "محمد علي، القاهرة",
        "دِپی‌نا",
        "ישראל ישראלי",
        'צה"ל',
        "अमित कुमार",
        "क्‍ष",
        "தமிழ்",
        "ณัฐพงษ์",
        "毛泽东",
        "東京都〒100-0001",
        "〇",
        "김철수",
        "María\u00a0José",
        "Paral·lel 1",
        "№ 5",
    ],
)
def test_names_addresses_and_sentences_of_the_world_pass_as_they_are(text: str) -> None:
    assert sanitize_input(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text",
    [
        "$(rm -rf /)",
        "`id`",
        "a; rm -rf /",
        "a | sh",
        "a && b",
        "a > b",
        "a < b",
        "<script>",
        "{7}",
        "${HOME}",
        "%s",
        "a\\b",
        "a\nb",
        "a\tb",
        "a\x00b",
        "\x1b[2J",
        "~/secret",
        "/etc/passwd",
        "a/../b",
        "*",
        "a=b",
        "--help",
        "-rf",
        "\u2013help",
        "\u2212help",
        "\uff0dhelp",
        "a\u202eb",
        "a\u200bb",
        "\ufeffa",
        "a\u2028b",
        "\ud800",
        "\U000e0041",
        "a\u200d",
        "\u200cb",
        "1\u200d2",
        '"quoted"',
        "🔥",
        "\ue000",
    ],
)
def test_what_a_shell_markup_or_terminal_acts_upon_does_not(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        sanitize_input(text)
    assert text not in str(refusal.value) or len(text) == 1


def test_the_refusal_names_the_place_and_the_character() -> None:
    with pytest.raises(InvalidInput, match=r"^character 4 \(U\+003B\) is not allowed in text$"):
        sanitize_input("abc; rm")


def test_length_is_counted_in_characters_before_anything_else() -> None:
    assert sanitize_input("a" * 1000) == "a" * 1000
    with pytest.raises(InvalidInput, match="longer than 1000"):
        sanitize_input("a" * 1001)
    with pytest.raises(InvalidInput, match="longer than 3"):
        sanitize_input("abcd", max_length=3)


@given(st.text(max_size=30))
def test_text_is_refused_or_returned_in_nfc_and_never_rewritten_further(text: str) -> None:
    try:
        clean = sanitize_input(text)
    except InvalidInput:
        return
    assert clean == unicodedata.normalize("NFC", text)
    assert sanitize_input(clean) == clean


@given(st.text(st.characters(categories=["Lu", "Ll", "Lo", "Mn", "Nd"]), max_size=30))
def test_letters_marks_and_digits_of_every_script_pass(text: str) -> None:
    assert sanitize_input(text) == unicodedata.normalize("NFC", text)


@given(
    st.text(max_size=10), st.sampled_from("$`;|<>\\{}[]*?~^%!=\n\r\t\0\x1b\x7f\u202e\u2066\ufeff"), st.text(max_size=10)
)
def test_one_dangerous_character_anywhere_is_enough(before: str, character: str, after: str) -> None:
    with pytest.raises(InvalidInput):
        sanitize_input(before + character + after)
