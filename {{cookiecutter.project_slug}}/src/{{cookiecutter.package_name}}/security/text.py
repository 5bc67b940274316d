"""Hygiene for short human text. The defence against injection is the sink: bound parameters, argument lists, handles.

An allow-list by Unicode category: names in every script pass, what shells, markup and terminals act upon does not.
Text is refused or returned as it came (beyond NFC normalisation); it is never rewritten, because a rewritten name is
wrong and a rewritten attack is often still an attack.
"""

import unicodedata

from .errors import InvalidInput

# Letters, marks, digits and dashes of every script (UAX #44, general categories). Nl holds the Chinese zero.
_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "Pd"})
# What names, addresses and plain sentences need beside them. No backquote, dollar, semicolon, pipe, backslash,
# bracket, brace, asterisk, tilde, percent sign or angle bracket: those are for shells, templates and markup.
_ASCII = frozenset(" .,'&()+#:@_")
_OTHER_SCRIPTS = frozenset(
    "\u00a0\u202f\u3000"  # spaces: no-break, narrow no-break (French, Mongolian), ideographic
    "’‘·№"  # typographic apostrophes, Catalan middle dot, numero sign
    "׳״"  # Hebrew geresh, gershayim
    "،؛؟।॥॰"  # Arabic comma and its kin, Devanagari danda, double danda, abbreviation
    "་།፡።၊။។՚՝։"  # Tibetan, Ethiopic, Burmese, Khmer, Armenian word and sentence marks
    "、。・，（）〒"  # CJK comma, stop, middle dot, full-width comma and brackets, postal mark
)
_ALLOWED = _ASCII | _OTHER_SCRIPTS
# Joiners that Persian, Hindi and Sinhala spell words with: legitimate between letters, invisible anywhere else.
_JOINERS = frozenset("\u200c\u200d")


def sanitize_input(text: str, *, max_length: int = 1000) -> str:
    """Return `text` in NFC if every character may occur in a name, an address or a plain sentence.

    Args:
        text: what the caller sent.
        max_length: longest accepted text, in characters.

    Raises:
        InvalidInput: naming the rule and the position (counted from 1), not the value.
    """
    if len(text) > max_length:
        raise InvalidInput(f"text is longer than {max_length} characters")
    normal = unicodedata.normalize("NFC", text)
    # Every dash: some systems map the others to '-' before a program sees them (CVE-2024-4577).
    if normal and (unicodedata.category(normal[0]) == "Pd" or normal[0] == "\u2212"):
        raise InvalidInput("text must not start with a dash: programs would read it as an option")
    if "&&" in normal:
        raise InvalidInput("'&&' is not allowed in text")
    for index, character in enumerate(normal):
        if not (
            character in _ALLOWED
            or unicodedata.category(character) in _CATEGORIES
            or _allowed_inside(character, normal[index - 1 : index], normal[index + 1 : index + 2])
        ):
            raise InvalidInput(f"character {index + 1} (U+{ord(character):04X}) is not allowed in text")
    return normal


def _allowed_inside(character: str, before: str, after: str) -> bool:
    """Characters that are part of a word between the right neighbours and a danger elsewhere."""
    if not (before and after):
        return False
    if character == "/":  # 5/2, c/o; not the start or end of a path
        return before.isalnum() and after.isalnum()
    if character == '"':  # the Hebrew abbreviation mark, typed with the key everybody has
        return "\u05d0" <= before <= "\u05ea" and "\u05d0" <= after <= "\u05ea"
    if character in _JOINERS:
        return all(unicodedata.category(neighbour)[0] in "LM" for neighbour in (before, after))
    return False
