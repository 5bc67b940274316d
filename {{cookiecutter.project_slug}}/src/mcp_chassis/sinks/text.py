"""Checks of text that a caller sent. The defence against injection is the sink: parameters, argument lists, handles.

Four profiles, each a type for tool parameters and a function: `Name` (a name, an address, a plain sentence), `Text`
(prose in any script), `Identifier` (ASCII word), `Argument` (one value of a command line). Text is refused or returned
unchanged but for NFC; it is never rewritten, because a rewritten name is wrong and a rewritten attack is often still an
attack. The functions take the text and its maximum length in characters, and raise `InvalidInput`, which names the rule
and the position (counted from 1), not the value.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .errors import InvalidInput
from .hidden import find_hidden

# Letters, marks, digits and dashes of every script (UAX #44, general categories). Nl holds the Chinese zero.
_NAME_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "Pd"})
# What names, addresses and plain sentences need beside them. No backquote, dollar, semicolon, pipe, backslash,
# bracket, brace, asterisk, tilde, percent sign or angle bracket: those are for shells, templates and markup.
_NAME_CHARACTERS = frozenset(
    " .,'&()+#:@_"
    "\u00a0\u202f\u3000"  # spaces: no-break, narrow no-break (French, Mongolian), ideographic
    "’‘«»„“”·№°½"  # typographic apostrophes and quotes, Catalan middle dot, numbers of houses
    "׳״"  # Hebrew geresh, gershayim
    "،؛؟۔।॥॰"  # Arabic comma, semicolon, question mark, Urdu full stop, Devanagari danda, double danda, abbreviation
    "་།፡።፣፤၊။၌၍၎၏។՚՛՝։"  # Tibetan, Ethiopic, Burmese, Khmer, Armenian word and sentence marks
    "、。・，（）「」『』〒"  # CJK comma, stop, middle dot, full-width comma and brackets, quotes, postal mark
)
# A shell's «and», HTML's character reference (which browsers read without its semicolon), SQL's comment.
_NAME_SEQUENCES = ("&&", "&#", "--")

_JOINERS = frozenset("\u200b\u200c\u200d\u180e")
# Hebrew with points and accents has five marks on a letter, Tibetan no more. Zalgo has dozens.
_MAX_MARKS = 6
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
    _refuse_hidden(normal, "a name")
    for index, around in enumerate(zip(["", *normal], normal, [*normal[1:], ""], strict=False)):
        if not _is_in_name(*around):
            raise _not_allowed(normal, index, "a name")
    return normal


def check_text(text: str, *, max_length: int = 10_000) -> str:
    """Return `text` in NFC if all of it is visible, or spelling in the script around it (`hidden.py`).

    Refuses hidden characters, line ends other than a line feed, and more than six combining marks in a row.
    """
    return _refuse_hidden(_normal(text, max_length), "text", also="\r")


def check_identifier(text: str, *, max_length: int = 64) -> str:
    """Return `text` if it is ASCII letters, digits, `_` and `-`, and does not start with `-`."""
    if len(text) > max_length:
        raise InvalidInput(f"it is longer than {max_length} characters")
    if not _IDENTIFIER.match(text):
        raise InvalidInput("an identifier holds ASCII letters, digits, '_' and '-' only and does not start with '-'")
    return text


def check_argument(text: str, *, max_length: int = 4096) -> str:
    """Return `text` in NFC if it is one value of a command line: as `check_text`, on one line, no leading dash.

    What it cannot see: values that a program interprets itself, such as `@file` or `key=value`.
    """
    normal = _normal(text, max_length)
    _refuse_leading_dash(normal)
    return _refuse_hidden(normal, "an argument", also="\n\t\r")


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
        max_length: in characters. Default: the profile's own.

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
        if marks > _MAX_MARKS:
            raise InvalidInput(f"character {index + 1} is one of more than {_MAX_MARKS} combining marks in a row")


def _refuse_leading_dash(text: str) -> None:
    # Every dash: some systems map the others to '-' before a program sees them (CVE-2024-4577).
    if _is(text[:1], "Pd") or text.startswith(("\u2212", "\u02d7", "\u2043")):
        raise InvalidInput("it must not start with a dash: programs would read it as an option")


def _refuse_hidden(text: str, what: str, *, also: str = "") -> str:
    places = [find_hidden(text), *(text.find(character) for character in also)]
    if found := [place for place in places if place is not None and place >= 0]:
        raise _not_allowed(text, min(found), what)
    return text


def _not_allowed(text: str, index: int, what: str) -> InvalidInput:
    return InvalidInput(f"character {index + 1} (U+{ord(text[index]):04X}) is not allowed there in {what}")


def _is_in_name(before: str, character: str, after: str) -> bool:
    if character in _NAME_CHARACTERS:
        return True
    if character == "/":  # 5/2, c/o, C/ Mayor; not the start or end of a path
        return before.isalnum() and (after.isalnum() or after == " ")
    if character == '"':  # the Hebrew abbreviation mark, as it is usually typed
        return "\u05d0" <= before <= "\u05ea" and "\u05d0" <= after <= "\u05ea"
    if character in _JOINERS:  # spelling, and inside of a word
        return _is(after, "L", "M")
    return unicodedata.category(character) in _NAME_CATEGORIES


def _is(character: str, *categories: str) -> bool:
    """Whether there is a character, and its general category is one of these or below one of these."""
    return character != "" and unicodedata.category(character).startswith(categories)
