"""Derives the table of characters that a reader cannot see from the Unicode Character Database.

`python tests/unicode_table.py` writes it anew, by the version of Unicode that the package `regex` carries. Every set is
a combination of properties (UAX #44, UAX #14, UTS #51): a new version of Unicode needs no decision.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import regex
from regex._regex_core import PROPERTIES  # type: ignore[attr-defined]  # the only list of scripts that it has

TABLE = Path(__file__).parent.parent / "{{cookiecutter.project_slug}}/src/mcp_chassis/sinks/unicode_table.py"
UNICODE = "18.0"
EVERYTHING = "".join(map(chr, range(0x110000)))
# Blank by their shape, and Unicode has no property that says so.
BLANKS = {
    0x2800: "BRAILLE PATTERN BLANK",
    0x13441: "EGYPTIAN HIEROGLYPH FULL BLANK",
    0x13442: "EGYPTIAN HIEROGLYPH HALF BLANK",
    0x16FE4: "KHITAN SMALL SCRIPT FILLER",
    0x1D159: "MUSICAL SYMBOL NULL NOTEHEAD",
}


def having(properties: str) -> set[int]:
    """Return the code points in a set of properties."""
    return {ord(character) for character in regex.findall(f"[{properties}]", EVERYTHING, regex.VERSION1)}


def hidden() -> set[int]:
    """Return what shows nothing or moves the cursor, except for tab and line ends."""
    noncharacters = {code for code in range(0x110000) if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF}
    unused = set(range(0x40000, 0x110000))  # planes without characters; plane 14 has tags and selectors only
    # Prepended concatenation marks are the formats that are seen: signs that enclose Arabic, Syriac and Kaithi digits.
    formats = r"[\p{Cf}--\p{Prepended_Concatenation_Mark}]"
    properties = rf"[\p{{Default_Ignorable_Code_Point}}\p{{Cc}}\p{{Co}}\p{{Cs}}\p{{Zl}}\p{{Zp}}{formats}]--[\t\n\r]"
    return having(properties) | noncharacters | unused | BLANKS.keys()


def joining() -> set[int]:
    """Return the scripts whose letters join or form conjuncts, where joiners are spelling (RFC 5892, appendix A)."""
    # Biblical Hebrew places its marks by joiners (SBL Hebrew Font User Manual).
    joined = having(r"\p{jt=D}\p{jt=R}\p{jt=L}\p{jt=C}\p{ccc=9}\p{Script=Hebrew}")
    names = {number: name for name, number in PROPERTIES["SCRIPT"][1].items()}
    scripts = [rf"\p{{Script={name}}}" for name in set(names.values()) - {"ZZZZ", "ZYYY", "ZINH", "QAAI"}]
    return joined.union(*(members for script in scripts if joined & (members := having(script))))


def derived() -> dict[str, tuple[str, set[int]]]:
    """Return the sets of the table: name, what it is, code points."""
    invisible = hidden()
    spelled = {
        "JOINING": ("Scripts whose letters join or form conjuncts, and Hebrew", joining()),
        "UNSPACED": ("Scripts that put no spaces between words (UAX #14, SA)", having(r"\p{Line_Break=SA}")),
        "RIGHT_TO_LEFT": ("Letters that run from right to left", having(r"\p{L}&&[\p{bc=R}\p{bc=AL}]")),
        "IDEOGRAPHS": ("Unified_Ideograph", having(r"\p{Unified_Ideograph}")),
        "PICTOGRAPHS": ("Extended_Pictographic: emoji of today and to come", having(r"\p{Extended_Pictographic}")),
    }
    words = having(r"\p{L}\p{N}") | invisible
    visible = {name: (what, bridged(codes - invisible, words)) for name, (what, codes) in spelled.items()}
    return {"HIDDEN": ("Shows nothing or moves the cursor; tab, LF and CR excepted", invisible), **visible}


def bridged(codes: set[int], words: set[int]) -> set[int]:
    """Return `codes` and the small gaps between them that hold no letters of others: fewer ranges, same effect."""
    runs = list(ranges(codes))
    gaps = [range(one[1] + 1, other[0]) for one, other in itertools.pairwise(runs)]
    return codes.union(*(gap for gap in gaps if len(gap) <= 64 and words.isdisjoint(gap)))


def ranges(codes: set[int]) -> Iterator[tuple[int, int]]:
    """Return the runs of consecutive code points."""
    starts, ends = (sorted(code for code in codes if code + step not in codes) for step in (-1, 1))
    return zip(starts, ends, strict=True)


def rendered() -> str:
    """Return the module's text."""
    lines = [f'"""Sets of characters of Unicode {UNICODE} for regular expressions. Generated: do not edit."""', ""]
    for name, (what, codes) in derived().items():
        lines.append(f"{name} = (  # {what}")
        line = ""
        for first, last in ranges(codes):
            part = escaped(first) if first == last else f"{escaped(first)}-{escaped(last)}"
            if len(line) + len(part) > 110:
                lines.append(f'    "{line}"')
                line = ""
            line += part
        lines += [f'    "{line}"', ")"]
    return "\n".join(lines) + "\n"


def escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


if __name__ == "__main__":
    TABLE.write_text(rendered(), encoding="ascii")
