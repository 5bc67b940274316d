"""The three ways in which `SafeRoot` opens a directory, for tests to run under each."""

import sys

import pytest

from mcp_chassis.sinks import beneath, safe_root

WAYS = ["openat2", "walk", "compare"]


def choose(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `SafeRoot` work as on Linux, on other systems with directory descriptors, or on those without."""
    if way != "compare" and sys.platform == "win32":
        pytest.skip("needs directory descriptors")
    if way == "openat2" and not beneath.has_openat2():
        pytest.skip("needs openat2")
    if way == "walk":
        monkeypatch.setattr(beneath, "has_openat2", lambda: False)
    if way == "compare":
        monkeypatch.setattr(safe_root, "DESCRIPTORS", False)
