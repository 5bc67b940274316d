"""Relative paths that stay below their directory, on every system."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from {{ cookiecutter.package_name }}.security import InvalidInput, validate_file_path


@pytest.mark.parametrize(
    "path",
    [
        *(
            "a",
            "a/b.txt",
            "notes/2026-11-22.md",
            ".hidden",
            "a b/c d.txt",
            "Grüße/你好.md",
            "com/lpt",
            "a..b",
            "console",
        ),
        *("x" * 255, "nul-l.txt", "..a/...b"),
    ],
)
def test_relative_paths_pass_as_they_are(path: str) -> None:
    assert validate_file_path(path) == PurePosixPath(path)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/etc/passwd", "..", "../a", "a/..", "a/../b", "a/./b", ".", "a//b", "a/", "//server/share"),
        *("a\\b", "..\\a", "\\\\server\\share", "C:", "C:/a", "c:a", "file.txt:stream", "file.txt::$DATA"),
        *("~", "~/a", "~root/a", "a/~b", "a\x00b", "a\nb", "a\x7fb", "a\x85b", "a*", "a?", "a|b", "a<b", 'a"b'),
        *(
            "a.",
            "a./b",
            "a ",
            " a",
            "a/ b",
            "...",
            "con",
            "NUL",
            "nul.txt",
            "aux.tar.gz",
            "a/CON/b",
            "com1",
            "LPT9.log",
        ),
        *("com¹", "conin$", "nul .txt", "\ud800", "x" * 256),
    ],
)
def test_what_some_system_reads_differently_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        validate_file_path(path)
    assert len(path) < 3 or path not in str(refusal.value)


def test_the_length_can_be_chosen() -> None:
    with pytest.raises(InvalidInput, match="longer than 3"):
        validate_file_path("abcd", max_length=3)


@given(
    st.lists(st.sampled_from(["a", "..", ".", "/", "\\", ":", "~", " ", "C", "con", "\x00", "ä", "%2e%2e"])).map(
        "".join
    )
)
def test_whatever_passes_stays_below_the_root(path: str) -> None:
    try:
        checked = validate_file_path(path)
    except InvalidInput:
        return
    for system in (PurePosixPath, PureWindowsPath):
        joined = system("/srv/notes") / checked
        assert joined.is_relative_to("/srv/notes")
        assert ".." not in joined.parts
        assert joined != system("/srv/notes")
    assert str(checked) == path
