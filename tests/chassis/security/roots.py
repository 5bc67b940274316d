"""The two ways in which `SafeRoot` opens a directory, for tests to run under each."""

import sys

import pytest

from mcp_chassis.sinks import safe_root

WAYS = ["descriptors", "paths"]


def choose(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `SafeRoot` work as on systems with directory descriptors, or on those without."""
    if way == "descriptors" and sys.platform == "win32":
        pytest.skip("needs directory descriptors")
    if way == "paths":
        monkeypatch.setattr(safe_root, "HAS_DESCRIPTORS", False)
