"""Files below one root: what works, and what is refused with which message."""

import errno
import os
import shutil
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_chassis.sinks import ConfigurationError, InvalidInput, SafeRoot

from .roots import WAYS, choose

ABSENT = "there is no such file, or it cannot be used here"


@pytest.fixture(params=WAYS)
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SafeRoot:
    """A root that holds one directory, in each way."""
    choose(request.param, monkeypatch)
    (tmp_path / "root" / "below").mkdir(parents=True)
    return SafeRoot(tmp_path / "root", max_bytes=100)


def test_what_is_written_is_read(root: SafeRoot) -> None:
    root.write_text("a.txt", "one\r\nzwei ☃\n")
    root.write_text("below/b.txt", "")
    assert root.read_text("a.txt") == "one\r\nzwei ☃\n"
    assert root.read_text("below/b.txt") == ""
    root.write_text("a.txt", "new")
    assert root.read_text("a.txt") == "new"
    assert root.list() == ["a.txt", "below/"]
    assert root.list("below") == ["b.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_files_are_private(root: SafeRoot) -> None:
    root.write_text("a.txt", "x")
    assert stat.S_IMODE(os.stat(os.path.join(root.directory, "a.txt")).st_mode) == 0o600


def test_a_file_that_is_opened_to_be_written_is_empty_at_once(root: SafeRoot) -> None:
    root.write_text("a.txt", "something")
    root.open("a.txt", "w").close()
    assert root.read_text("a.txt") == ""


def test_the_limits_are_those_of_the_documents_by_default(tmp_path: Path) -> None:
    root = SafeRoot(tmp_path)
    assert (root.max_bytes, root.max_files) == (1_048_576, 1000)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_a_directory_that_is_made_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        SafeRoot(tmp_path / "root").write_text("a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o700


def test_open_reads_and_writes_text_and_bytes(root: SafeRoot) -> None:
    with root.open("a", "x") as file:
        file.write("long ☃")
    with root.open("a", "wb") as file:
        file.write(b"s\xff")
    with root.open("a", "rb") as file:
        assert file.read() == b"s\xff"
    with pytest.raises(InvalidInput, match="already"):
        root.open("a", "x")
    with pytest.raises(InvalidInput, match="UTF-8"):
        root.read_text("a")


@pytest.mark.parametrize("mode", ["a", "r+", "rw", "", "bb", "rbb", "U"])
def test_other_modes_are_the_authors_mistake(root: SafeRoot, mode: str) -> None:
    with pytest.raises(ConfigurationError, match="mode"):
        root.open("a", mode)


def test_without_overwrite_what_exists_is_left_alone(root: SafeRoot) -> None:
    root.write_text("a.txt", "old", overwrite=False)
    with pytest.raises(InvalidInput, match="already"):
        root.write_text("a.txt", "new", overwrite=False)
    assert root.read_text("a.txt") == "old"
    assert root.list() == ["a.txt", "below/"]


def test_the_first_write_makes_the_root(tmp_path: Path) -> None:
    root = SafeRoot(tmp_path / "not" / "yet")
    assert root.list() == []
    with pytest.raises(InvalidInput, match=ABSENT):
        root.read_text("a")
    with pytest.raises(InvalidInput, match=ABSENT):
        root.list("below")
    assert not (tmp_path / "not").exists()
    root.write_text("a", "x")
    assert root.list() == ["a"]


def test_a_root_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    root = SafeRoot(tmp_path / "root")
    root.write_text("a", "x")
    (tmp_path / "root" / "a").unlink()
    (tmp_path / "root").rmdir()
    assert root.list() == []
    root.write_text("b", "y")
    assert root.list() == ["b"]


@pytest.mark.parametrize("path", ["absent", "absent/a", "below", "file/a", "a" * 250 + "/b"])
def test_absent_and_forbidden_are_one_message(root: SafeRoot, path: str) -> None:
    root.write_text("file", "x")
    with pytest.raises(InvalidInput) as refused:
        root.read_text(path)
    assert str(refused.value) == ABSENT


def test_a_file_over_the_limit_is_neither_read_nor_written(root: SafeRoot) -> None:
    Path(root.directory, "big").write_bytes(b"x" * 101)
    for read in (root.read_text, root.open):
        with pytest.raises(InvalidInput, match="larger than 100 bytes"):
            read("big")
    with pytest.raises(InvalidInput, match="larger than 100 bytes"):
        root.write_text("new", "☃" * 34)
    assert not Path(root.directory, "new").exists()


def test_a_file_of_exactly_the_limit_is_written_opened_and_read(root: SafeRoot) -> None:
    text = "x" * 97 + "☃"
    root.write_text("a", text)
    root.write_text("b", text, overwrite=False)
    with root.open("a") as file:
        assert file.read() == root.read_text("b") == text


def test_a_file_that_grows_after_it_was_opened_is_not_read_beyond_the_limit(
    root: SafeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(root.directory, "a").write_bytes(b"x" * 100)
    really = root.open

    def grow(relative: str, mode: str = "r") -> Any:
        file = really(relative, mode)
        with Path(root.directory, "a").open("ab") as more:
            more.write(b"x" * 1000)
        return file

    monkeypatch.setattr(root, "open", grow)
    with pytest.raises(InvalidInput, match="larger than 100 bytes"):
        root.read_text("a")


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    root = SafeRoot(tmp_path, max_files=3)
    for name in "abc":
        root.write_text(name, "x")
    for overwrite in (True, False):
        with pytest.raises(InvalidInput, match="3 files already"):
            root.write_text("d", "x", overwrite=overwrite)
    with pytest.raises(InvalidInput, match="3 files already"):
        root.open("d", "w")
    root.write_text("a", "still changes")
    (tmp_path / "d").touch()
    assert root.list() == ["a", "b", "c"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_write_that_fails_leaves_the_old_text_and_nothing_else(
    root: SafeRoot, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    if overwrite:
        root.write_text("a", "old")

    def disk_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):  # the operator's to hear of, not the caller's mistake
        root.write_text("a", "new", overwrite=overwrite)
    assert sorted(os.listdir(root.directory)) == (["a", "below"] if overwrite else ["below"])
    assert not overwrite or root.read_text("a") == "old"


def test_listings_at_the_same_time_do_not_disturb_each_other(root: SafeRoot) -> None:
    names = [f"{number:03}" for number in range(300)]
    for name in names:
        Path(root.directory, "below", name).touch()
        Path(root.directory, name).touch()
    with ThreadPoolExecutor(8) as threads:
        listed = list(threads.map(root.list, ["", "below"] * 40))
    assert all(content in ([*names, "below/"], names) for content in listed)


def test_lone_surrogates_are_not_written(root: SafeRoot) -> None:
    with pytest.raises(InvalidInput, match="Unicode"):
        root.write_text("a", "\ud800")
    assert root.list() == ["below/"]


def test_names_that_a_path_cannot_have_are_not_listed(root: SafeRoot) -> None:
    for name in ("~left-over.tmp", "ok"):
        Path(root.directory, name).touch()
    assert root.list() == ["below/", "ok"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_descriptor_is_left_behind(root: SafeRoot) -> None:
    root.write_text("below/a", "x")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("below/a", "absent", "below", "absent/a", "../x"):
        for _ in range(5):
            try:
                root.read_text(path)
                root.write_text(path, "y")
            except InvalidInput:
                pass
            root.list("below")
    assert len(os.listdir("/proc/self/fd")) == before


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=st.text(st.sampled_from("ab./~\\ \0:"), max_size=8), text=st.text(max_size=20))
def test_every_write_is_below_or_refused(root: SafeRoot, path: str, text: str) -> None:
    outside = os.path.dirname(root.directory)
    try:
        root.write_text(path, text)
    except InvalidInput:
        pass
    else:
        assert root.read_text(path) == text
    assert os.listdir(outside) == ["root"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_a_directory_that_is_deleted_again_and_again_costs_no_descriptors(tmp_path: Path) -> None:
    root = SafeRoot(tmp_path / "root")
    root.write_text("a", "x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        shutil.rmtree(root.directory)
        root.write_text("a", "x")
    assert root.read_text("a") == "x"
    assert len(os.listdir("/proc/self/fd")) == before


def test_writers_at_the_same_time_make_no_more_files_than_there_may_be(tmp_path: Path) -> None:
    root = SafeRoot(tmp_path / "root", max_files=3)

    def write(number: int) -> bool:
        try:
            if number % 2:
                root.write_text(f"{number}", "x")
            else:
                root.open(f"{number}", "w").close()
        except InvalidInput:
            return False
        return True

    with ThreadPoolExecutor(30) as pool:
        assert sum(pool.map(write, range(60))) == 3
    assert len(os.listdir(root.directory)) == 3


def test_a_root_that_cannot_be_used_is_no_fault_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        for use in (SafeRoot.read_text, SafeRoot.open, partial(SafeRoot.write_text, text="x")):
            with pytest.raises(ConfigurationError, match="directory of a SafeRoot cannot be used"):
                use(SafeRoot(directory), "a")


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_files": 0}, {"max_files": -1}])
def test_limits_that_nothing_keeps_are_the_authors_mistake(tmp_path: Path, limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        SafeRoot(tmp_path, **limits)


def test_the_smallest_limits_are_one_file_of_one_byte(tmp_path: Path) -> None:
    root = SafeRoot(tmp_path, max_bytes=1, max_files=1)
    root.write_text("a", "x")
    assert (root.list(), root.read_text("a")) == (["a"], "x")
    with pytest.raises(InvalidInput, match="larger than 1 bytes"):
        root.write_text("a", "xy")
    with pytest.raises(InvalidInput, match="1 files already"):
        root.write_text("b", "x")
