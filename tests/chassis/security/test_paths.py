"""The pure check of a path."""

import posixpath
from pathlib import PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.sinks import InvalidInput, validate_file_path


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "notes/todo.txt",
        "a/b/c.tar.gz",
        ".gitignore",
        "..a",
        "a..b/c",
        "with space.txt",
        "100% sure.txt",
        "naïve.txt",
        "メモ/買い物.txt",
        "ملاحظة.txt",
        "می\u200cخواهم.txt",
        "console.txt",
        "com10",
        "nullable",
        "O'Brien (2).txt",
    ],
)
def test_relative_paths_pass_unchanged(path: str) -> None:
    assert str(validate_file_path(path)) == path


@given(st.text(st.sampled_from('a.~/\\: %2eE\0\nCON*"|\u2025\uff0e\uff0f\u200e'), max_size=12))
def test_whatever_passes_stays_below_on_every_system(path: str) -> None:
    try:
        checked = str(validate_file_path(path))
    except InvalidInput:
        return
    assert checked == path
    assert posixpath.normpath(posixpath.join("/root", path)) == f"/root/{path}"
    windows = PureWindowsPath(path)
    assert not windows.is_absolute()
    assert not windows.drive
    assert not windows.root
    assert ".." not in windows.parts
    assert "\0" not in path
    assert not path.endswith((".", " "))
    assert not path.startswith(" ")


def test_the_message_names_the_rule_and_not_the_path() -> None:
    for path in ("/secret", "secret/../x", "secret.", "C:secret", "secret\0", "secret/con", "~secret", "s%2esecret"):
        with pytest.raises(InvalidInput) as refused:
            validate_file_path(path)
        assert "secret" not in str(refused.value)


def test_the_length_is_bounded() -> None:
    assert validate_file_path("a" * 255)
    with pytest.raises(InvalidInput, match="longer than 255"):
        validate_file_path("a" * 256)
    with pytest.raises(InvalidInput, match="longer than 5"):
        validate_file_path("abcdef", max_length=5)


@pytest.mark.parametrize(
    "part", ["..;x", ".;", "\u2025;x", "\uff0e\uff0e;", "\u2025", "\uff0e", "a\uff0fb", "a\uff3cb"]
)
def test_what_becomes_a_step_or_a_separator_elsewhere_is_refused_anywhere(part: str) -> None:
    """Some servers cut off what follows a semicolon, some systems normalise: the rest is then `..` or has a slash."""
    for path in (part, f"a/{part}", f"{part}/b"):
        with pytest.raises(InvalidInput, match="no empty part"):
            validate_file_path(path)


@pytest.mark.parametrize("part", [" a", "a ", "a.", " ", "..."])
def test_a_part_that_windows_would_shorten_is_refused_anywhere(part: str) -> None:
    for path in (part, f"a/{part}", f"{part}/b"):
        with pytest.raises(InvalidInput, match=r"starts or ends with a space|no empty part"):
            validate_file_path(path)


def test_a_mark_of_direction_is_refused_even_beside_letters_from_right_to_left() -> None:
    """It shows `exe.` and `txt` in another order than they are in."""
    for mark in "\u200e\u200f\u061c":
        with pytest.raises(InvalidInput, match="invisible character"):
            validate_file_path(f"\u05d0{mark}txt.exe")
