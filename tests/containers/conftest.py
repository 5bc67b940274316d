"""One engine, one project and one image for all tests with containers."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from baking import bake
from engine import Engine, engine

WITH_ROOT = pytest.mark.skipif(
    os.environ.get("CONTAINER_TESTS") != "all",
    reason="takes minutes, and needs root: python dev.py containers, or .ci/run with everything else",
)
IMAGE = "localhost/secure-mcp-server:0.1.0"
"""As compose.yaml calls it."""

WAIT = '''"""A tool that takes its time."""

import anyio

from mcp_chassis import tool


@tool(title="Wait", read_only=True, open_world=False)
async def wait() -> str:
    """Wait for three seconds."""
    print("waiting", flush=True)
    await anyio.sleep(3)
    return "waited to the end"
'''


@pytest.fixture(scope="session")
def podman() -> Iterator[Engine]:
    with engine() as found:
        yield found


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one tool more, which was approved, and with secrets that belong into no image.

    The commands at the top of compose.yaml make the secrets.
    """
    made = bake(tmp_path_factory.mktemp("image"), deployment="docker", rate_limit="redis", examples="full")
    tools = made / "src/secure_mcp_server/tools"
    (tools / "wait.py").write_text(WAIT, encoding="utf-8")
    listing = (tools / "__init__.py").read_text(encoding="utf-8")
    listing = re.sub(r"(?m)^TOOLS(.*?) = \(", r"from .wait import wait\n\nTOOLS\1 = (wait, ", listing)
    (tools / "__init__.py").write_text(listing, encoding="utf-8")
    lock = [sys.executable, "-m", "secure_mcp_server", "tools", "lock"]
    subprocess.run(lock, cwd=made, env={"PYTHONPATH": "src"}, check=True, capture_output=True)
    compose = (made / "compose.yaml").read_text(encoding="utf-8")
    lines = re.findall(r"^#   ((?:install|python|password|echo|chmod)\b.*)$", compose, re.MULTILINE)
    subprocess.run(["sh", "-ec", "\n".join(lines)], cwd=made, check=True)
    return made


@pytest.fixture(scope="session")
def key(project: Path) -> str:
    """The key of the deployment, which containers get as a file."""
    return (project / "secrets/server/api_key").read_text(encoding="utf-8").strip()


@pytest.fixture(scope="session")
def image(podman: Engine, project: Path) -> str:
    """The image of the project."""
    podman("build", "--pull-never", "--tag", IMAGE, project, seconds=600)
    return IMAGE


def secrets_of(project: Path) -> dict[str, str]:
    """Return the secrets of the project by the names of their files."""
    names = (".env", "secrets/server/api_key", "secrets/server/state_secret", "secrets/valkey_conf")
    texts = {name: (project / name).read_text(encoding="utf-8") for name in names}
    return {name: re.findall(r"[\w-]{43,}", text)[0] for name, text in texts.items()}
