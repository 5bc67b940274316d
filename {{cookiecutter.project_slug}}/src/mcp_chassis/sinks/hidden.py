"""Characters that a person does not see and a model, a program or a terminal acts upon: one table for every use.

What is hidden is derived from Unicode's properties (`unicode_table.py`): Default_Ignorable_Code_Point, controls,
formats, private use, surrogates, noncharacters. Tags spell ASCII that no font shows, selectors and joiners are bits,
overrides show another order than is read (CVE-2021-42574), escape sequences draw on a terminal. The exceptions below
are spelling: each is visible in its place, in the script that needs it. Spaces, line feeds and tabs are not hidden.
"""

import re

from .unicode_table import HIDDEN, IDEOGRAPHS, JOINING, PICTOGRAPHS, RIGHT_TO_LEFT, UNSPACED

# What is spelling somewhere. Two of them in a row are a code, but for a selector or a variant before a joiner.
_SPELLED = (
    r"\u034f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2800\ufe00-\ufe0f\U00013430-\U0001343f\U00013441\U00013442"
    r"\U00016fe4\U0001bca0-\U0001bca3\U000e0020-\U000e007f\U000e0100-\U000e01ef"
)
_FIRST, _LAST = rf"(?<![{_SPELLED}].)", rf"(?![{_SPELLED}])"
# Each begins with the character itself: where there is another one, the search ends at once.
_SPELLING = (
    # Joiner, non-joiner beside a letter of a script that joins: Persian plurals, Indic conjuncts, Mongolian forms.
    rf"[\u200c\u200d]{_LAST}(?:(?<=[{JOINING}].)|(?<=[\u1810-\u18aa][\u180b-\u180d\u180f].)|{_FIRST}(?=[{JOINING}]))",
    # Joiner between emoji, the first of which may have a selector: families, professions, the rainbow flag.
    rf"\u200d(?=[{PICTOGRAPHS}])(?:(?<=[{PICTOGRAPHS}].)|(?<=[{PICTOGRAPHS}]\ufe0f.))",
    # Emoji or text presentation of a pictograph, which a joiner or a mark of direction may follow, and of keycaps.
    rf"[\ufe0e\ufe0f](?:(?<=[{PICTOGRAPHS}].)(?:{_LAST}|(?=[\u200c-\u200f]))|(?<=[0-9#*].)(?=\u20e3))",
    # Zero-width space between words of Thai, Lao, Khmer, Burmese.
    rf"\u200b{_LAST}(?:(?<=[{UNSPACED}].)|{_FIRST}(?=[{UNSPACED}]))",
    # Mongolian free variation selectors after a letter, and the vowel separator.
    rf"[\u180b-\u180d\u180f](?<=[\u1807-\u180a\u1810-\u18aa].)(?:{_LAST}|(?=[\u180e\u200c\u200d]))",
    rf"\u180e{_LAST}(?:(?<=[\u1820-\u18aa].)|(?<=[\u1820-\u18aa][\u180b-\u180d\u180f].))",
    # Ideographic variants in Japanese names. The Ideographic Variation Database has at most 32 for one ideograph.
    rf"[\ufe00-\ufe02\U000e0100-\U000e011f](?<=[{IDEOGRAPHS}].){_LAST}",
    # Standardized variants: Burmese, Phags-pa, Manichaean, mathematics, full-width punctuation; hieroglyphs.
    rf"[\ufe00-\ufe02]{_LAST}(?<=[\u1000-\u109f\uaa60-\uaa7f\ua840-\ua877\U00010ac0-\U00010af6\u2205-\u27ff"
    r"\u2900-\u2aff\u3001\u3002\uff01\uff0c\uff0e\uff1a\uff1b\uff1f].)",
    rf"[\ufe00-\ufe06](?<=[\U00013000-\U0001342f].){_LAST}",
    # Grapheme joiner between the marks of biblical Hebrew.
    r"\u034f(?<=[\u0591-\u05c7].)(?=[\u0591-\u05c7])",
    # Fillers of old Korean syllables without an initial or a vowel.
    r"\u1160(?:(?<=[\u1100-\u115e\ua960-\ua97c].)|(?<=\u115f.)(?=[\u11a8-\u11ff\ud7cb-\ud7fb]))",
    r"\u115f(?=[\u1161-\u11a7\ud7b0-\ud7c6]|\u1160[\u11a8-\u11ff\ud7cb-\ud7fb])",
    # Layout inside a script: hieroglyphs, Khitan, Duployan.
    r"[\U00013430-\U0001343f\U00013441\U00013442](?:(?<=[\U00013000-\U0001342f].)|(?=[\U00013000-\U0001342f]))",
    r"\U00016fe4(?<=[\U00018b00-\U00018cff].)",
    r"[\U0001bca0-\U0001bca3](?<=[\U0001bc00-\U0001bc99].)",
)
# Marks of direction order what is beside them. Inside of a word of Latin letters or digits there is nothing to order.
_DIRECTION_MARKS = (
    rf"[\u200e\u200f\u061c]{_LAST}(?:(?<=[{RIGHT_TO_LEFT}].)|(?<=[{PICTOGRAPHS}]\ufe0f.)"
    rf"|{_FIRST}(?:(?<!\w.)|(?=[{RIGHT_TO_LEFT}]|\W|\Z)))"
)
# The only use of tags that Unicode recommends: the flags of England, Scotland and Wales (UTS #51).
_REGIONS = ("".join(chr(0xE0000 + ord(letter)) for letter in region) for region in ("gbeng", "gbsct", "gbwls"))
_FLAG = rf"\U0001f3f4(?:{'|'.join(_REGIONS)})\U000e007f"
_BRAILLE = r"\u2800*+[\u2801-\u28ff][\u2800-\u28ff]*+"  # its blanks are its spaces

_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SUSPECT = re.compile(rf"[{HIDDEN}\r]")
_ANY_SPELLED = re.compile(f"[{_SPELLED}]")
_RIGHT_TO_LEFT = re.compile(f"[{RIGHT_TO_LEFT}]")
# ECMA-48: a string with its content (OSC, DCS, SOS, PM, APC), a control sequence, an escape sequence. One that does not
# end loses its beginning only: what follows is then text for everyone. A lone carriage return lets the next words
# overwrite the line; it and the other ends of lines become line feeds.
_NEVER_SPELLED = re.compile(
    rf"(?P<kept>{_FLAG})"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x08\x0e-\x1f\x7f-\x9f]*+(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]?|\x1b[ -/]*+[0-~]?"
    r"|(?P<line>\r(?!\n)|[\x0b\x0c\x85\u2028\u2029])"
    rf"|(?:(?![\x0b\x0c\x85\u2028\u2029\x90\x98\x9b\x9d-\x9f\x1b{_SPELLED}])[{HIDDEN}])+"
    r"|[\x90\x98\x9d-\x9f]"
)


def _pattern(*spelling: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<kept>{_FLAG}|{_BRAILLE})|\r(?!\n)|(?:(?!{'|'.join(spelling)})[{HIDDEN}])+", re.DOTALL)


_HIDDEN = _pattern(*_SPELLING)
_HIDDEN_BUT_MARKS = _pattern(*_SPELLING, _DIRECTION_MARKS)


def _is_plain(text: str) -> bool:
    """Whether there is nothing to look at: almost every text, and ASCII in a tenth of the time."""
    return (_ASCII_CONTROL if text.isascii() else _SUSPECT).search(text) is None


def _hidden_in(text: str) -> re.Pattern[str]:
    """Marks of direction do something only where there are letters from right to left."""
    return _HIDDEN_BUT_MARKS if _RIGHT_TO_LEFT.search(text) else _HIDDEN


def without_hidden(text: str) -> str:
    """Return `text` without hidden characters and escape sequences, and with LF or CRLF for every end of a line."""
    if _is_plain(text):
        return text
    text = _NEVER_SPELLED.sub(lambda found: found["kept"] or ("\n" if found["line"] else ""), text)
    if not _ANY_SPELLED.search(text):
        return text
    return _hidden_in(text).sub(lambda found: found["kept"] or "", text)


def find_hidden(text: str, *, allow_marks: bool = True) -> int | None:
    """Return where the first hidden character is, if there is one.

    With `allow_marks`, marks of direction pass in text that runs from right to left. They can change the order of what
    is around them, such as the extension of a file.
    """
    if _is_plain(text):
        return None
    pattern = _hidden_in(text) if allow_marks else _HIDDEN
    return next((found.start() for found in pattern.finditer(text) if not found["kept"]), None)


def escape_hidden(text: str) -> str:
    """Return `text` with what is hidden, and every mark of direction, written as an escape such as `\\u202e`."""
    return _HIDDEN.sub(lambda found: found["kept"] or found[0].encode("unicode_escape").decode(), text)
