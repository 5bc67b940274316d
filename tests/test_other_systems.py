"""What `dev.py` and `scripts/create_env.py` do on other systems, told that they are on one."""

import os
import socket
import subprocess
import types
from pathlib import Path
from typing import Any, cast

import pytest
from baking import TEMPLATE, load_module

import dev


@pytest.mark.parametrize(("windows", "python"), [(True, "Scripts/python.exe"), (False, "bin/python")])
def test_an_environment_has_its_python_where_the_system_puts_it(
    windows: bool, python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "WINDOWS", windows)
    assert dev.Environment(Path("env")).python == Path("env", *python.split("/"))


@pytest.mark.parametrize("windows", [True, False])
def test_a_port_is_not_shared_and_a_server_gets_a_session_where_there_are_any(
    windows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[int] = []

    class Probe(socket.socket):
        def setsockopt(self, *words: Any) -> None:
            options.append(words[1])

    started: dict[str, Any] = {}
    monkeypatch.setattr(dev, "WINDOWS", windows)
    monkeypatch.setattr(dev, "socket", types.SimpleNamespace(**{**vars(socket), "socket": Probe}))
    fake = types.SimpleNamespace(**{**vars(subprocess), "Popen": lambda *_, **given: started.update(given)})
    monkeypatch.setattr(dev, "subprocess", fake)
    monkeypatch.setattr(dev, "package_of", lambda _: "package")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dev.require_free_port(port)
    dev.start_server(dev.Environment(tmp_path), tmp_path, port)
    assert options == ([] if windows else [socket.SO_REUSEADDR])
    assert started["start_new_session"] is not windows


def test_env_is_written_without_fchmod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = cast(Any, load_module(TEMPLATE / "scripts/create_env.py"))
    members = {name: value for name, value in vars(os).items() if name != "fchmod"}
    monkeypatch.setattr(script, "os", types.SimpleNamespace(**members))
    script.write_private(tmp_path / ".env", "A=1\n")
    assert (tmp_path / ".env").read_bytes() == b"A=1\n"
