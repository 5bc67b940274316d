"""Checks of text that a caller sent. The defence against injection is the sink: parameters, argument lists, handles.

Four profiles, each a type for tool parameters and a function: `Name` (a name, an address, a plain sentence), `Text`
(prose in any script), `Identifier` (ASCII word), `Argument` (one value of a command line). Text is refused or returned
unchanged but for NFC; it is never rewritten, because a rewritten name is wrong and a rewritten attack is often still an
attack. The functions take the text and its maximum length in characters, and raise `InvalidInput`, which names the rule
and the position (counted from 1), not the value; `ConfigurationError` if the length is not positive.
"""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

from .errors import InvalidInput, refuse_length
from .hidden import find_hidden

# Letters, marks, numbers, dashes, currencies of every script (UAX #44, general categories). Nl holds the Chinese zero.
_NAME_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "No", "Pd", "Sc"})
# A currency too, but shells, templates and format strings expand what follows.
_DOLLARS = frozenset("$\ufe69\uff04")
# What names, addresses and plain sentences need beside them. No backquote, dollar, semicolon, pipe, backslash,
# bracket, brace, asterisk, tilde or angle bracket: those are for shells, templates and markup.
_NAME_CHARACTERS = frozenset(
    " .,'()+#:@_"
    "\u00a0\u202f\u3000"  # spaces: no-break, narrow no-break (French, Mongolian), ideographic
    "’‘‚«»„“”·‧№°℃℉−"  # typographic quotes, dots in Catalan and Chinese names, degrees, minus as a dash (Japan)
    "¡¿…×®™©"  # Spanish, and what names of products and sizes have
    "׳״"  # Hebrew geresh, gershayim
    "،؛؟۔।॥॰\u066b\u066c"  # Arabic marks and separators of digits, Urdu full stop, Devanagari dandas, abbreviation
    "་།፡።፣፤፥፦፧፨၊။၌၍၎၏។՚՛՝։\u1802\u1803"  # Tibetan, Ethiopic, Burmese, Khmer, Armenian, Mongolian marks
    "、。・，：（）「」『』《》【】〒！？"  # CJK and full-width punctuation, quotes, postal mark
)
# Not what NFC (the Greek question mark) or code pages (the full-width semicolon and tilde) make one of the others.
# Of symbols, too, code pages map some to `<`, `>`, `|`, `^`; not these, nor those beyond the Basic Multilingual Plane.
_SYMBOLS = frozenset("☀★☆☎☕☺♀♂⚠⚡✅✈✓✔✨❌❤⭐")
# Ends of words and of sentences, which may stand behind a percent sign, an exclamation or a question mark.
_AFTER_MARK = frozenset(["", *" ,.:)'’”»"])
_JOINERS = frozenset("\u200b\u200c\u200d\u180e")
_MAX_MARKS = 6  # on a letter: Hebrew with points and accents has five, Tibetan no more, Zalgo dozens
# SQL's comment, and an option of a program behind an ampersand.
_DASHES = re.compile(r"[-\u2212]{2}|\A[^&]*&.* \W?[-\u2212](?=\w)")
# In names of families and firms, behind an ampersand. `du`, `di`, `le` and `co` are missing: there are such programs.
_NO_PROGRAM = re.compile(r"(van|von|den?|der|ten|ter|zu) |(co\.|sons|fils|figli|hijos|zonen|sønner|söner)(?![\w./-])")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\Z")


def check_name(text: str, max_length: int = 1000) -> str:
    """Return `text` in NFC if every character may occur where it stands in a name, an address or a plain sentence."""
    normal = _normal(text, max_length)
    _refuse_leading_dash(normal)
    if _is(normal[:1], "M"):
        raise InvalidInput("character 1 is a combining mark without a letter before it")
    if found := _DASHES.search(normal):
        raise InvalidInput(f"the dash at character {found.end()} is not allowed there in a name")
    _refuse_hidden(normal, "a name")
    for index, character in enumerate(normal):
        if character not in _NAME_CHARACTERS and not _is_in_name(normal, index):
            raise _not_allowed(normal, index, "a name")
    return normal


def check_text(text: str, *, max_length: int = 10_000) -> str:
    """Return `text` in NFC if all of it is visible, or spelling in the script around it (`hidden.py`).

    Refuses hidden characters, line ends other than a line feed, and more than six combining marks in a row.
    """
    return _refuse_hidden(_normal(text, max_length), "text", also="\r")


def check_identifier(text: str, *, max_length: int = 64) -> str:
    """Return `text` if it is ASCII letters, digits, `_` and `-`, and does not start with `-`."""
    refuse_length(text, max_length)
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


sanitize_input = check_name  # the name that guides use: `sanitize_input(value, 500)`; nothing is removed or replaced

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
    refuse_length(text, max_length)
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


def _is_in_name(text: str, index: int) -> bool:
    """Whether a character may stand where it does: what shells, templates and markup begin with, beside words only."""
    character, before, after = text[index], text[max(0, index - 4) : index], text[index + 1 : index + 10]
    if character in "/／&":
        return _joins_words(character, before, after)
    if character in "%％٪!?":
        return _ends_word(character, before, after)
    if character == '"':  # the Hebrew abbreviation mark, as it is usually typed
        return "\u05d0" <= before[-1:] <= "\u05ea" and "\u05d0" <= after[:1] <= "\u05ea"
    if character in _JOINERS:  # spelling, and inside of a word; or of an emoji
        return _is(after[:1], "L", "M") or _is_symbol(after[:1])
    return _is_symbol(character) or (character not in _DOLLARS and unicodedata.category(character) in _NAME_CATEGORIES)


def _joins_words(character: str, before: str, after: str) -> bool:
    spaced = before.endswith(" ") and after.startswith(" ")
    left, right = (before[:-1], after[1:]) if spaced else (before, after)
    if character == "&":  # AT&T, Smith & Sons, Bros. & Co; not `x & id`, `1 & Id`, `a&7z`, `&lt`
        letter, follows = left.rstrip(".+#)'’")[-1:], unicodedata.normalize("NFKC", right.lstrip(".('‘")[:1])
        may_run = follows.islower() and follows.isascii() and not (spaced and _NO_PROGRAM.match(right))
        return _is(letter, "L", "M") and _is(follows, "L", "M") and not may_run
    # 5/2, c/o, C/ Mayor, Viana / RO; not the start or end of a path.
    return _is_word(left[-1:]) and _is_word(right.removeprefix(" ")[:1])


def _ends_word(character: str, before: str, after: str) -> bool:
    if character in "%٪":  # 50%, 50 %, 5%-10%; not %41, %PATH%
        is_range = _is(after[:1], "Pd") and _is(after[1:2], "N")
        return _is(before.removesuffix(" ")[-1:], "N") and (after[:1] in _AFTER_MARK | {"!", "?"} or is_range)
    if character == "％":  # Chinese and Japanese have no space behind it
        return _is(before[-1:], "N") and (after[:1] in _AFTER_MARK or not after[:1].isascii())
    # Of a sentence, in French behind a space: no history of a shell, no pattern, no query.
    if before[-1:] in {" ", "\u00a0", "\u202f"} and _is_word(before[-2:-1]):
        before = before[:-1]
    marks = {"!", "?"} if character == "?" else {"?"}
    return (_is_word(before[-1:]) or before[-1:] in {*marks, *"%)'’”»"}) and after[:1] in _AFTER_MARK | marks


def _is_symbol(character: str) -> bool:
    """Whether it is an emoji or a sign that nothing makes a character of a shell of."""
    beyond = "\U0001f1e6" <= character <= "\U0001faff" and _is(character, "So", "Sk")
    return beyond or character in _SYMBOLS or "\u3200" <= character <= "\u33ff"  # ㈱, ㎡


def _is_word(character: str) -> bool:
    return _is(character, "L", "M", "N")


def _is(character: str, *categories: str) -> bool:
    """Whether there is a character, and its general category is one of these or below one of these."""
    return character != "" and unicodedata.category(character).startswith(categories)
