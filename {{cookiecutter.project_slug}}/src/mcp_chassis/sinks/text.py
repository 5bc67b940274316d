"""Hygiene for text that a caller sent. The defence against injection is the sink: parameters, argument lists, handles.

Four profiles, each a type for tool parameters and a function: `Name` (a name, an address, a plain sentence), `Text`
(prose of any length in any script), `Identifier` (what programs call things), `Argument` (one word of a command line).
Text is refused or returned as it came (beyond NFC normalisation); it is never rewritten, because a rewritten name is
wrong and a rewritten attack is often still an attack.

Each function takes the text and the longest that is accepted, in characters, and raises `InvalidInput`, which names the
rule and the position (counted from 1), not the value.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .errors import InvalidInput

# Letters, marks, digits and dashes of every script (UAX #44, general categories). Nl holds the Chinese zero.
_NAME_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "Pd"})
# What names, addresses and plain sentences need beside them. No backquote, dollar, semicolon, pipe, backslash,
# bracket, brace, asterisk, tilde, percent sign or angle bracket: those are for shells, templates and markup.
_NAME_CHARACTERS = frozenset(
    " .,'&()+#:@_"
    "\u00a0\u202f\u3000"  # spaces: no-break, narrow no-break (French, Mongolian), ideographic
    "’‘«»„“”·№°½"  # typographic apostrophes and quotes, Catalan middle dot, numbers of houses
    "׳״"  # Hebrew geresh, gershayim
    "،؛؟۔।॥॰"  # Arabic comma and its kin, Urdu full stop, Devanagari danda, double danda, abbreviation
    "་།፡።፣፤၊။၌၍၎၏។՚՛՝։"  # Tibetan, Ethiopic, Burmese, Khmer, Armenian word and sentence marks
    "、。・，（）「」『』〒"  # CJK comma, stop, middle dot, full-width comma and brackets, quotes, postal mark
)
# A shell's «and», HTML's character reference (which browsers read without its semicolon), SQL's comment.
_NAME_SEQUENCES = ("&&", "&#", "--")

# Letters and marks without any shape: Hangul fillers, inherent vowels of Khmer.
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u17b4\u17b5")
# Invisible, and spelling only in scripts whose letters join or whose words are not spaced: zero-width space,
# non-joiner, joiner, grapheme joiner, Mongolian vowel separator.
_JOINERS = frozenset("\u200b\u200c\u200d\u034f\u180e")
_JOINING_SCRIPTS = re.compile("[\u0590-\u109f\u1700-\u1cff\ua800-\uabff\ufb50-\ufdff\U00010a00-\U00011fff]")
_DIRECTION_MARKS = frozenset("\u200e\u200f\u061c")
_VARIATION_SELECTOR = re.compile("[\ufe00-\ufe0f\u180b-\u180d\u180f\U000e0100-\U000e01ef]")
# Characters of category Cf that are seen: signs that enclose digits in Arabic, Syriac and Kaithi.
_VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Reserved for invisible characters (UAX #44, Default_Ignorable_Code_Point): tags among them, which spell hidden ASCII.
_RESERVED = re.compile("[\u2065\ufff0-\ufff8\U000e0000-\U000e0fff]")
# The only use of tags that Unicode recommends: the flags of England, Scotland and Wales (UTS #51).
_REGIONS = ("".join(chr(0xE0000 + ord(letter)) for letter in region) for region in ("gbeng", "gbsct", "gbwls"))
FLAG = re.compile(f"\U0001f3f4(?:{'|'.join(_REGIONS)})\U000e007f")
# Hebrew with points and accents has five marks on a letter, Tibetan no more. Zalgo has dozens.
_MOST_MARKS = 6
_IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\Z")


def check_name(text: str, *, max_length: int = 1000) -> str:
    """Return `text` in NFC if every character may occur in a name, an address or a plain sentence."""
    normal = _normal(text, max_length)
    _refuse_leading_dash(normal)
    if _is(normal[:1], "M"):
        raise InvalidInput("character 1 is a combining mark without a letter before it")
    for sequence in _NAME_SEQUENCES:
        if (index := normal.find(sequence)) >= 0:
            raise InvalidInput(f"'{sequence}' at character {index + 1} is not allowed in a name")
    return _each(normal, _in_name, "a name")


def check_text(text: str, *, max_length: int = 10_000) -> str:
    """Return `text` in NFC if everything in it can be seen, or is spelling in the script around it.

    Refuses controls but newline and tab, surrogates, noncharacters, bidirectional controls that reorder what is shown
    (CVE-2021-42574), tags, blank letters, heaps of marks, and invisible characters outside of words that need them.
    """
    return _each(_normal(text, max_length), _in_text, "text")


def check_identifier(text: str, *, max_length: int = 64) -> str:
    """Return `text` if it is ASCII letters, digits, `_` and `-`, and does not start with `-`."""
    if len(text) > max_length:
        raise InvalidInput(f"it is longer than {max_length} characters")
    if not _IDENTIFIER.match(text):
        raise InvalidInput("an identifier holds ASCII letters, digits, '_' and '-' only and does not start with '-'")
    return text


def check_argument(text: str, *, max_length: int = 4096) -> str:
    """Return `text` in NFC if a program can only read it as one value: as `check_text`, on one line, no leading dash.

    What it cannot see: values that a program reads in a way of its own, such as `@file` or `key=value`.
    """
    normal = _normal(text, max_length)
    _refuse_leading_dash(normal)
    return _each(normal, _in_argument, "an argument")


Profile = Literal["name", "text", "identifier", "argument"]
_CHECKS: dict[Profile, Callable[..., str]] = {
    "name": check_name,
    "text": check_text,
    "identifier": check_identifier,
    "argument": check_argument,
}


def sanitize_input(text: str, profile: Profile = "name", *, max_length: int | None = None) -> str:
    """Return `text` in NFC if it fits `profile`; nothing is removed or replaced.

    Args:
        text: what the caller sent.
        profile: which check.
        max_length: longest accepted text, in characters. Default: the profile's own.

    Raises:
        InvalidInput: naming the rule and the position, not the value.
    """
    check = _CHECKS[profile]
    return check(text) if max_length is None else check(text, max_length=max_length)


# Types for parameters of tools. A shorter limit: Annotated[Name, Field(max_length=50)].
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_name)]
Text = Annotated[str, Field(max_length=10_000), AfterValidator(check_text)]
Identifier = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(check_identifier)]
Argument = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(check_argument)]


def _normal(text: str, max_length: int) -> str:
    # Before NFC, which takes quadratic time for heaps of marks and may lengthen a text; and on its result, so that
    # what was accepted once is accepted again.
    _refuse_excess(text, max_length)
    if text.isascii():
        return text
    normal = unicodedata.normalize("NFC", text)
    _refuse_excess(normal, max_length)
    return normal


def _refuse_excess(text: str, max_length: int) -> None:
    if len(text) > max_length:
        raise InvalidInput(f"it is longer than {max_length} characters")
    marks = 0
    for index, character in enumerate(text):
        marks = marks + 1 if character > "\u02ff" and unicodedata.category(character) in {"Mn", "Me"} else 0
        if marks > _MOST_MARKS:
            raise InvalidInput(f"character {index + 1} is one of more than {_MOST_MARKS} combining marks in a row")


def _refuse_leading_dash(text: str) -> None:
    # Every dash: some systems map the others to '-' before a program sees them (CVE-2024-4577).
    if _is(text[:1], "Pd") or text.startswith(("\u2212", "\u02d7", "\u2043")):
        raise InvalidInput("it must not start with a dash: programs would read it as an option")


_Rule = Callable[[str, str, str], bool]
"""Whether a character may stand between its neighbours, which are empty at the ends."""


def _each(text: str, allowed: _Rule, what: str) -> str:
    padded = ["", *FLAG.sub(lambda flag: "\U0001f3f4" * len(flag[0]), text), ""]
    for index in range(1, len(padded) - 1):
        character = padded[index]
        if not allowed(character, padded[index - 1], padded[index + 1]):
            raise InvalidInput(f"character {index} (U+{ord(character):04X}) is not allowed there in {what}")
    return text


def _in_name(character: str, before: str, after: str) -> bool:
    if character in _NAME_CHARACTERS:
        return True
    if character == "/":  # 5/2, c/o, C/ Mayor; not the start or end of a path
        return before.isalnum() and (after.isalnum() or after == " ")
    if character == '"':  # the Hebrew abbreviation mark, typed with the key everybody has
        return "\u05d0" <= before <= "\u05ea" and "\u05d0" <= after <= "\u05ea"
    if character in _JOINERS:
        return _is(after, "L", "M") and _is_spelling(character, before, after)
    return unicodedata.category(character) in _NAME_CATEGORIES and _in_text(character, before, after)


def _in_argument(character: str, before: str, after: str) -> bool:
    return character not in "\n\t" and _in_text(character, before, after)


def _in_text(character: str, before: str, after: str) -> bool:
    if character.isascii():
        return character.isprintable() or character in "\n\t"
    category = unicodedata.category(character)
    if category == "Cf" or character in _JOINERS:
        return character in _VISIBLE_FORMATS or _is_spelling(character, before, after)
    if _VARIATION_SELECTOR.match(character):
        return _is_variant(character, before)
    # What is not assigned yet may be next year's emoji; the last two of every plane will never be (noncharacters).
    never = category == "Cn" and (ord(character) & 0xFFFE == 0xFFFE or "\ufdd0" <= character <= "\ufdef")
    return not (
        never or category in {"Cc", "Cs", "Zl", "Zp"} or character in _BLANKS or _RESERVED.match(character) is not None
    )


def _is_spelling(character: str, before: str, after: str) -> bool:
    """Whether an invisible character does something that a reader sees."""
    if _is(after, "Cf") or after in _JOINERS:
        return False  # two in a row are a code
    if character in _DIRECTION_MARKS:
        return not (before.isascii() and before.isalnum() and after.isascii() and after.isalnum())
    if character == "\u200d" and _is_emoji(before):
        return _is_emoji(after)
    return character in _JOINERS and _is(before, "L", "M") and _JOINING_SCRIPTS.match(before) is not None


def _is_variant(selector: str, before: str) -> bool:
    """Whether a variation selector follows something that has variants (UTS #37, UTS #51)."""
    if selector < "\u1810":
        return "\u1807" <= before <= "\u18aa"  # Mongolian
    if selector in "\ufe0e\ufe0f":  # as text or as emoji; ℹ is a letter
        return _is(before, "N", "P", "S") or before == "\u2139"
    return _is(before, "Lo", "Sm") and before >= "\u1000"  # Burmese, ideographs, mathematics


def _is_emoji(character: str) -> bool:
    # Some are younger than this Python.
    return _is(character, "S") or "\U0001f000" <= character <= "\U0001faff" or character == "\ufe0f"


def _is(character: str, *categories: str) -> bool:
    """Whether there is a character, and its general category is one of these or below one of these."""
    return character != "" and unicodedata.category(character).startswith(categories)
