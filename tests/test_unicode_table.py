"""The table of hidden characters is what the Unicode Character Database says."""

import re

from unicode_table import BLANKS, TABLE, derived, having, rendered


def test_the_table_is_as_derived() -> None:
    """If Unicode has a new version: `python tests/unicode_table.py`."""
    assert TABLE.read_text(encoding="ascii") == rendered()


def test_every_character_that_unicode_calls_ignorable_is_hidden() -> None:
    _, hidden = derived()["HIDDEN"]
    assert having(r"\p{Default_Ignorable_Code_Point}") <= hidden
    others = having(r"[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]--\p{Prepended_Concatenation_Mark}")
    assert others - hidden == set(b"\t\n\r")


def test_nothing_that_is_seen_is_hidden() -> None:
    _, hidden = derived()["HIDDEN"]
    seen = having(r"[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}]--\p{Default_Ignorable_Code_Point}")
    assert seen & hidden == BLANKS.keys()


def test_the_ranges_of_the_table_are_read_as_written_by_the_standard_library() -> None:
    namespace: dict[str, str] = {}
    exec(TABLE.read_text(encoding="ascii"), namespace)  # noqa: S102
    for name, (_, codes) in derived().items():
        matches = re.compile(f"[{namespace[name]}]").match
        assert {code for code in range(0x110000) if matches(chr(code))} == codes, name
