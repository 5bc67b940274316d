"""Hidden characters: all of Unicode is removed or seen, and spelling of any script is left alone."""

import itertools
import sys
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.events.untrusted import escape_controls
from mcp_chassis.sinks import InvalidInput, check_argument, check_name, check_text, validate_file_path
from mcp_chassis.sinks.hidden import escape_hidden, find_hidden, without_hidden

EVERY = [chr(code) for code in range(sys.maxunicode + 1)]
# By category and name alone, with the Unicode data of this Python: a second opinion on the generated table.
SEEN_FORMATS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
BLANK = (
    *("VARIATION SELECTOR", "CHOSEONG FILLER", "JUNGSEONG FILLER", "HANGUL FILLER", "SCRIPT FILLER", "GRAPHEME JOINER"),
    *("INHERENT", "VOWEL SEPARATOR", "NULL NOTEHEAD", "PATTERN BLANK", "FULL BLANK", "HALF BLANK"),
)
LINE_ENDS = "\n\r\x0b\x0c\x85\u2028\u2029"
STARTS_OF_SEQUENCES = "\x1b\x90\x98\x9b\x9d\x9e\x9f"


def is_invisible(character: str) -> bool:
    category, name = unicodedata.category(character), unicodedata.name(character, "")
    if category == "Cf":
        return character not in SEEN_FORMATS  # they enclose digits
    if category == "Cn":  # noncharacters; what is not assigned yet is shown as a box
        return ord(character) & 0xFFFE == 0xFFFE or "\ufdd0" <= character <= "\ufdef"
    return category in {"Cc", "Co", "Cs", "Zl", "Zp"} or any(blank in name for blank in BLANK)


def test_every_invisible_character_of_unicode_is_removed_from_a_result_and_shown_in_a_question() -> None:
    """Between letters that need none of them."""
    invisible = [character for character in EVERY if is_invisible(character)]
    assert len(invisible) > 137_000
    kept = "\t" + LINE_ENDS + STARTS_OF_SEQUENCES
    text = "".join(f"a{character}b" for character in invisible if character not in kept)
    assert set(without_hidden(text)) == set("ab")
    assert all(not is_invisible(character) for character in set(escape_hidden(text)))
    for character in LINE_ENDS:
        assert without_hidden(f"a{character}b") == "a\nb", ascii(character)
    for character in STARTS_OF_SEQUENCES:
        assert not is_invisible(without_hidden(f"a{character}b")[1:] or "a"), ascii(character)


@pytest.mark.parametrize("check", [check_text, check_name, check_argument, validate_file_path])
def test_every_invisible_character_is_refused(check: Callable[[str], object]) -> None:
    for character in EVERY[:0xE1000]:
        if character in "\t\n" or not is_invisible(character) or "\ud800" < character < "\uf8ff":
            continue
        assert find_hidden(f"a{character}b") == 1, ascii(character)
        with pytest.raises(InvalidInput):
            check(f"a{character}b")


def test_every_visible_character_of_unicode_stays() -> None:
    seen = (character for character in EVERY if unicodedata.category(character)[0] in "LMNPSZ")
    text = "".join(f"a{character}b" for character in seen if not is_invisible(character))
    assert without_hidden(text) == text
    assert find_hidden(text) is None


def test_a_log_line_shows_what_is_hidden_as_an_escape() -> None:
    assert escape_controls("a\u3164\ufe0f\U000e0100\u034fb") == r"a\u3164\ufe0f\U000e0100\u034fb"


def test_a_character_that_is_not_assigned_yet_stays() -> None:
    """It may be next year's emoji."""
    assert without_hidden("a\U0001fadfb\U0001fffdc") == "a\U0001fadfb\U0001fffdc"


HIDDEN_OR_NOT = (
    "aא한葛ب😀❤1 \n\rᠠকภ⠁[]\u200b\u200c\u200d\u200e\u200f\u202e\u2066\ufe0f\ufe00\u180b\u180e\u034f\u115f\u1160\u2800"
    "\U0001f3f4\U000e0067\U000e007f\U000e0100\x1b\x07\x9b\x9d\x85\U00013000\U00013430\u20e3\ufeff\x00"
)


def test_what_was_cleaned_has_nothing_left_to_clean() -> None:
    """Every three of them: what is removed must not have held something else in its place."""
    for parts in itertools.product(HIDDEN_OR_NOT, repeat=3):
        cleaned = without_hidden("".join(parts))
        assert find_hidden(cleaned) is None, ascii(parts)
        assert without_hidden(cleaned) == cleaned, ascii(parts)


@given(st.text(HIDDEN_OR_NOT, max_size=12))
def test_longer_texts_have_nothing_left_to_clean_either(text: str) -> None:
    assert find_hidden(without_hidden(text)) is None


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_what_nothing_was_found_in_stays_as_it_is(text: str) -> None:
    assert (find_hidden(text) is None) == (without_hidden(text) == text)


@pytest.mark.parametrize(
    "base", ["a", "1", "é", "я", "ا", "א", "क", "ක", "ᠠ", "ภ", "한", "葛", "😀", "❤", "🏴", "⠁", "𓀀", " ", "#"]
)
def test_two_invisible_characters_in_a_row_are_a_code_and_removed(base: str) -> None:
    """But for a joiner after a selector, which both do something, and a mark beside them."""
    codes = "\u200b\u200c\u200d\u2060\ufeff\ufe00\ufe01\ufe0f\u034f\u180e\U000e0100\U000e0101\u3164\u2061"
    for one in codes:
        for other in codes:
            left = without_hidden(f"{base}{one}{other}{base}")
            assert one + other not in left or (one in "\ufe0f\u180e" and other in "\u200c\u200d\u180e"), ascii(left)


HOSTILE = {
    "tags": "\U000e0041",
    "every second": "a\u200b",
    "joiners": "\u200c\u200d",
    "selectors": "😀\ufe0f\u200d",
    "ideographs": "葛\U000e0100",
    "marks": "א\u200f\u200e",
    "sequences": "\x1b[",
    "strings": "\x1b]",
    "strings in C1": "\x90",
    "string": "\x1b]0;" + "a" * 1000,
    "flags": "\U0001f3f4\U000e0067\U000e0062",
    "blanks": "\u2800",
    "ends of lines": "\r",
    "fillers": "\u115f\u1160",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_time_is_linear(kind: str) -> None:
    """Four times the text takes about four times as long. Twelve is what a loaded machine may make of it."""

    def seconds(length: int) -> float:
        text = HOSTILE[kind] * (length // len(HOSTILE[kind]))
        spent = []
        for _ in range(3):
            started = time.process_time()
            for use in (without_hidden, find_hidden, escape_hidden):
                use(text)
            spent.append(time.process_time() - started)
        return min(spent)

    assert seconds(80_000) < 12 * seconds(20_000) + 0.01
