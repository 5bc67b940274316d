"""`MANIFEST` is current, and `chassis verify` finds a changed, an added and a missing file by it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from baking import ROOT, bake, copied

import dev
from mcp_chassis.rooms import OFFERS

ROOMS = tuple(offer.package for offer in OFFERS)
VERSION = "1.0.0"
Verify = Callable[[Path], "subprocess.CompletedProcess[str]"]


def command(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the project's command as it stands in its directory."""
    return subprocess.run(
        [sys.executable, "-m", dev.package_of(project), *words],
        cwd=project,
        env={"PYTHONPATH": str(project / "src"), "SECRETS_DIR": "/nonexistent"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def verify(project: Path) -> "subprocess.CompletedProcess[str]":
    return command(project, "chassis", "verify")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy to change."""
    return copied(tmp_path)


def test_the_manifest_is_current() -> None:
    chassis = dev.Checkout(ROOT).chassis
    assert (chassis / dev.MANIFEST).read_text(encoding="ascii") == dev.manifest_of(chassis), (
        "The chassis was edited: write its checksums again with `python dev.py manifest`."
    )


@pytest.mark.parametrize(
    ("answers", "rooms"),
    [
        ({}, "telemetry"),
        (dev.EVERY_ROOM, ", ".join(ROOMS)),
        ({"observability": "none", "auth": "none", "rate_limit": "none", "deployment": "none"}, "none"),
    ],
    ids=["default", "every", "none"],
)
def test_a_new_project_has_an_unmodified_chassis(answers: dict[str, str], rooms: str, tmp_path: Path) -> None:
    """Optional packages that were not asked for are absent, and that is no difference."""
    project = bake(tmp_path, overwrite=False, hooks=True, **answers)
    done = verify(project)
    assert (done.returncode, done.stdout) == (0, f"unmodified chassis {VERSION}, optional packages: {rooms}\n"), (
        done.stderr
    )


def test_the_attacks_may_be_absent(project: Path) -> None:
    """As they are from a wheel."""
    shutil.rmtree(project / "src/mcp_chassis/testing")
    assert verify(project).returncode == 0
    done = command(project, "attack")
    assert done.returncode == 2
    assert "Run it in the checkout" in done.stderr


def test_one_changed_byte_is_found_and_named(project: Path) -> None:
    names = ["auth/keys/verifier.py", "py.typed", "sinks/text.py"]
    for name in names:
        path = project / "src/mcp_chassis" / name
        path.write_bytes(path.read_bytes() + b"\n")
    done = verify(project)
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line.strip() for line in done.stderr.splitlines()[1:-1]] == [f"{name}: was changed" for name in names]


def test_an_added_and_a_missing_file_are_found_and_named(project: Path) -> None:
    chassis = project / "src/mcp_chassis"
    (chassis / "sinks/more.py").write_text("", encoding="utf-8")
    (chassis / "py.typed").unlink()
    (chassis / "telemetry/metrics.py").unlink()
    done = verify(project)
    assert done.returncode == 1
    assert [line.strip() for line in done.stderr.splitlines()[1:-1]] == [
        "py.typed: is missing",
        "sinks/more.py: was added",
        "telemetry/metrics.py: is missing",
    ]


def test_an_optional_package_is_absent_as_a_whole_or_not_at_all(project: Path) -> None:
    (project / "src/mcp_chassis/replicas").mkdir()
    (project / "src/mcp_chassis/replicas/__init__.py").write_text("from ..rooms import Room\n\nROOM = Room()\n")
    (project / ".env").write_text("PORT=none\n")  # it is about the files, whatever the settings are
    done = command(project, "chassis", "verify")
    assert done.returncode == 1
    assert "replicas/__init__.py: was changed" in done.stderr
    assert "replicas/workers.py: is missing" in done.stderr


def test_a_missing_manifest_is_no_unmodified_chassis(project: Path) -> None:
    (project / "src/mcp_chassis/MANIFEST").unlink()
    done = verify(project)
    assert done.returncode == 1
    assert "MANIFEST: cannot be read" in done.stderr


def test_check_says_it_too(project: Path) -> None:
    unchanged = command(project, "check")
    assert f"unmodified chassis {VERSION}, optional packages: telemetry" in unchanged.stdout
    path = project / "src/mcp_chassis/app.py"
    path.write_bytes(path.read_bytes() + b"\n")
    (line,) = [line for line in command(project, "check").stdout.splitlines() if line.startswith("WARN  chassis")]
    assert "app.py: was changed" in line


def test_dev_py_writes_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chassis = dev.Checkout(tmp_path).chassis
    (chassis / "http").mkdir(parents=True)
    (chassis / "http/app.py").write_bytes(b"")
    (chassis / "VERSION").write_bytes(b"1.0.0\n")
    assert dev.main(["manifest"], tmp_path) == 0
    assert "MANIFEST" in capsys.readouterr().out
    listed = (chassis / "MANIFEST").read_text(encoding="ascii").splitlines()
    assert [line.partition("  ")[2] for line in listed] == ["VERSION", "http/app.py"]
    assert listed[1].startswith("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  ")
