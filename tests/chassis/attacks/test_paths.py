"""Paths that lead out: by their spelling, by links, by special files, and by swapping what was checked."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mcp_chassis.sinks import ConfigurationError, InvalidInput, SafeRoot, validate_file_path

from ..security.roots import WAYS, choose

SECRET = "canary-outside-of-the-root"

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file types")

SPELLINGS = [
    "../outside/secret",
    "..",
    ".",
    "",
    "/",
    "./secret",
    "below/../../outside/secret",
    "below/../secret",
    "below//secret",
    "below/./secret",
    "....//outside/secret",
    "..;/outside/secret",
    "/etc/passwd",
    "//etc/passwd",
    "file:///etc/passwd",
    "~/secret",
    "~root/secret",
    "..\\outside\\secret",
    "below\\..\\..\\outside",
    "C:\\Windows\\win.ini",
    "C:/Windows/win.ini",
    "C:secret",
    "\\\\host\\share\\secret",
    "//host/share/secret",
    "\\\\?\\C:\\secret",
    "\\\\.\\pipe\\x",
    "note.txt::$DATA",
    "note.txt:stream",
    "note.txt.",
    "note.txt ",
    " note.txt",
    ".. /secret",
    "... /secret",
    "con",
    "CON.txt",
    "Aux",
    "nul.tar.gz",
    "NUL .txt",
    "com1",
    "LPT9.log",
    "com¹",
    "below/prn",
    "conin$",
    "note.txt\0.png",
    "\0",
    "note\n.txt",
    "note\r.txt",
    "note\x1b[2J",
    "note\x7f",
    "note\x85",
    "%2e%2e/outside/secret",
    "..%2foutside%2fsecret",
    "%2e%2e%2foutside",
    "..%252foutside",
    "..%c0%afoutside",
    "．．/outside/secret",
    "‥/outside/secret",
    "..／outside／secret",
    "..＼outside",
    "..∕outside/../x",
    "note\u202etxt.exe",
    "note\u200b.txt",
    "note\ufeff.txt",
    "no\u034fte.txt",
    "note\u3164.txt",
    "note\uffa0.txt",
    "note\ufe0f.txt",
    "note\U000e0100.txt",
    "note\u200d.txt",
    "note\u180e.txt",
    "note\u2800.txt",
    "note\u17b4.txt",
    "note\u00ad.txt",
    "note\uf03a.txt",  # Samba and Cygwin write a colon so
    "note\ufffa.txt",
    "note\U0001d173.txt",
    "\u05d0\u200f.txt",  # a mark of direction moves the extension
    "\u05d0\u061c.txt",
    "note" + chr(0xE0041),
    "\ud800",
    "*",
    "?ote.txt",
    "<note>",
    "a|b",
    '"note"',
    "a" * 256,
    "a/" * 200 + "b",
]


@pytest.mark.parametrize("path", SPELLINGS)
def test_spellings_that_lead_out_somewhere_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        validate_file_path(path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a root, and beside it what must not be reached."""
    (tmp_path / "root" / "below").mkdir(parents=True)
    (tmp_path / "root" / "own").write_text("own")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(SECRET)
    return tmp_path


@pytest.fixture(params=WAYS)
def root(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> SafeRoot:
    """A root, in each way of opening."""
    choose(request.param, monkeypatch)
    return SafeRoot(place / "root")


def refused_everywhere(root: SafeRoot, path: str) -> None:
    """Assert that a path can neither be read nor listed, nor written through `open`."""
    for attempt in (root.read_text, root.open, root.list, lambda path: root.open(path, "w").close()):
        with pytest.raises(InvalidInput):
            attempt(path)


@posix
def test_links_are_not_followed_wherever_they_lead(root: SafeRoot, place: Path) -> None:
    inside = place / "root"
    (inside / "file").symlink_to(place / "outside" / "secret")
    (inside / "relative").symlink_to("../outside/secret")
    (inside / "directory").symlink_to(place / "outside")
    (inside / "dangling").symlink_to(place / "outside" / "made")
    (inside / "loop").symlink_to("loop")
    (inside / "magic").symlink_to("/proc/self/root")
    (inside / "below" / "up").symlink_to("..")
    (inside / "below" / "deep").write_text("own")
    for path in (
        "file",
        "relative",
        "directory/secret",
        "dangling",
        "loop",
        "below/up/own",
        "below/up/below/deep",
        "magic/etc/passwd",
    ):
        refused_everywhere(root, path)
    assert root.list() == ["below/", "own"]
    for path in ("file", "relative", "dangling", "directory/made"):
        for overwrite in (True, False):
            with suppress(InvalidInput):  # a link that is replaced by a file is no harm
                root.write_text(path, "written", overwrite=overwrite)
    assert os.listdir(place / "outside") == ["secret"]
    assert (place / "outside" / "secret").read_text() == SECRET


@posix
def test_a_second_name_of_a_file_outside_is_refused(root: SafeRoot, place: Path) -> None:
    os.link(place / "outside" / "secret", place / "root" / "hard")
    for attempt in (root.read_text, lambda path: root.open(path, "w").close()):
        with pytest.raises(InvalidInput):
            attempt("hard")
    root.write_text("hard", "written")  # replaces the name, not the file
    assert (place / "outside" / "secret").read_text() == SECRET


@posix
def test_fifos_sockets_and_devices_neither_block_nor_open(root: SafeRoot, place: Path) -> None:
    os.mkfifo(place / "root" / "fifo")
    here = os.getcwd()
    os.chdir(place / "root")  # the names of sockets are short
    try:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("socket")
    finally:
        os.chdir(here)
    names = ["fifo", "socket"]
    with suppress(PermissionError):  # needs to be root
        os.mknod(place / "root" / "zero", 0o20666, os.makedev(1, 5))
        names.append("zero")

    def attack() -> None:
        for name in names:
            refused_everywhere(root, name)

    # Opening a FIFO waits for its other end: the test must not wait with it.
    attacker = threading.Thread(target=attack, daemon=True)
    attacker.start()
    attacker.join(5)
    listener.close()
    assert not attacker.is_alive(), "blocked"
    assert root.list() == ["below/", "own"]


@posix
def test_a_root_that_is_replaced_by_a_link_is_still_the_old_root(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose("descriptors", monkeypatch)
    root = SafeRoot(place / "root")
    assert root.read_text("own") == "own"
    (place / "outside" / "own").write_text(SECRET)
    (place / "root").rename(place / "moved")
    (place / "root").symlink_to(place / "outside")
    assert root.read_text("own") == "own"
    root.write_text("new", "x")
    assert (place / "moved" / "new").exists()
    assert not (place / "outside" / "new").exists()


@posix
def test_a_root_that_is_replaced_by_a_link_before_the_first_use_is_not_opened(root: SafeRoot, place: Path) -> None:
    (place / "root").rename(place / "moved")
    (place / "root").symlink_to(place / "outside")
    with pytest.raises((InvalidInput, ConfigurationError)):
        root.read_text("secret")
    with pytest.raises((InvalidInput, ConfigurationError)):
        root.write_text("new", "x")
    assert os.listdir(place / "outside") == ["secret"]


RACER = """
import os, sys
os.chdir(sys.argv[1])
os.symlink("../outside/secret", "link-to-file")
os.symlink("../outside", "link-to-directory")
print("racing", flush=True)
while True:
    os.symlink("../outside/secret", "next"); os.replace("next", "file")
    with open("next", "w") as file: file.write("own")
    os.replace("next", "file")
    os.rename("directory", "parked"); os.rename("link-to-directory", "directory")
    os.rename("directory", "link-to-directory"); os.rename("parked", "directory")
"""


@contextmanager
def racing(root: Path) -> Iterator[None]:
    """Swap `file` and `directory` between the real thing and a link to the outside, in a loop in another process."""
    (root / "directory").mkdir()
    (root / "directory" / "secret").write_text("own")
    process = subprocess.Popen([sys.executable, "-c", RACER, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"racing\n"
        yield
        assert process.poll() is None, "the racer gave up"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@posix
@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_swapping_links_in_a_loop_wins_nothing(seconds: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose("descriptors", monkeypatch)
    root = SafeRoot(place / "root")
    read: dict[str, int] = {}
    with racing(place / "root"):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for path in ("file", "directory/secret"):
                with suppress(InvalidInput):
                    text = root.read_text(path)
                    read[text] = read.get(text, 0) + 1
            with suppress(InvalidInput):
                root.write_text("directory/new", "x")
            with suppress(InvalidInput):
                root.open("directory/opened", "w").close()
            with suppress(InvalidInput):
                assert "only-outside" not in root.list("directory")
    assert SECRET not in read
    assert read["own"] > 10, "the race was no race"
    assert os.listdir(place / "outside") == ["secret"]
    assert (place / "outside" / "secret").read_text() == SECRET
