"""The bundle for desktop clients: what is in it, what the published validator says, and that it starts."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from baking import TEMPLATE, bake, load_module
from chassis.support.node import find_node
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from pydantic import Field, SecretStr

from mcp_chassis.settings import Settings, team_fields

VALIDATOR = "@anthropic-ai/mcpb@2"
SLUG = "secure-mcp-server"


def command(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the server's command in the project."""
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "SECRETS_DIR": os.devnull}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a bundle, made by the server's command."""
    baked = bake(tmp_path_factory.mktemp("bundled"))
    (baked / "src/secure_mcp_server/.hidden").write_text("secret", encoding="utf-8")
    done = command(baked, "-m", "secure_mcp_server", "bundle")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(Path("dist", f"{SLUG}-0.1.0.mcpb"))
    return baked


@pytest.fixture(scope="module")
def unpacked(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle as a desktop client unpacks it."""
    directory = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(project / f"dist/{SLUG}-0.1.0.mcpb") as archive:
        archive.extractall(directory)
    return directory


def manifest(unpacked: Path) -> dict[str, Any]:
    return dict(json.loads((unpacked / "manifest.json").read_text(encoding="utf-8")))


def test_it_holds_the_server_and_no_secret(project: Path, unpacked: Path) -> None:
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {"manifest.json", "pyproject.toml", "README.md", "LICENSE", "tools.lock.json"} <= names
    assert manifest(unpacked)["server"]["entry_point"] in names
    assert "src/mcp_chassis/app.py" in names
    assert not [name for name in names if "/." in name or name.startswith((".", "tests/", "src/mcp_chassis/testing"))]
    key = next(line for line in (project / ".env").read_text().splitlines() if line.startswith("API_KEY="))
    assert not [name for name in names if key.partition("=")[2].encode() in (unpacked / name).read_bytes()]


def test_the_same_files_make_the_same_bytes(project: Path) -> None:
    target = project / f"dist/{SLUG}-0.1.0.mcpb"
    before = target.read_bytes()
    target.unlink()
    os.utime(project / "README.md", (1, 1))
    done = command(project, "scripts/bundle.py", "--repository", "an-org/notes")
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == before
    entry = json.loads((project / "dist/server.json").read_text(encoding="utf-8"))
    (package,) = entry["packages"]
    assert entry["name"] == f"io.github.an-org/{SLUG}"
    assert package["identifier"].endswith(f"/an-org/notes/releases/download/v0.1.0/{SLUG}-0.1.0.mcpb")
    assert package["transport"] == {"type": "stdio"}
    assert len(package["fileSha256"]) == 64


@pytest.mark.parametrize("wrong", ["notes", "an org/notes", "an-org/..", "an-org/notes/x", "https://github.com/a/b"])
def test_what_is_no_repository_is_refused(project: Path, wrong: str) -> None:
    done = command(project, "scripts/bundle.py", "--repository", wrong)
    assert done.returncode == 2
    assert "is not of the form OWNER/NAME" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_that_leads_out_of_the_project_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    link = project / "src/secure_mcp_server/data.txt"
    link.symlink_to(tmp_path / "secret")
    try:
        done = command(project, "scripts/bundle.py")
    finally:
        link.unlink()
    assert done.returncode == 1
    assert "leads out of the project" in done.stderr


def test_the_published_validator_accepts_the_manifest(
    unpacked: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    node = find_node(request.config)
    cli = node.package(VALIDATOR) / "node_modules/@anthropic-ai/mcpb/dist/cli/cli.js"
    for change, accepted in (({}, True), ({"server": {"type": "uv"}}, False)):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest(unpacked) | change), encoding="utf-8")
        validated = [node.program, str(cli), "validate", str(tmp_path / "manifest.json")]
        done = subprocess.run(validated, capture_output=True, encoding="utf-8", check=False)
        assert (done.returncode == 0) == accepted, done.stdout + done.stderr


def test_own_settings_are_asked_for_and_no_default_of_a_secret_is_written() -> None:
    class Own(Settings):
        token: SecretStr = Field(SecretStr("a default that is secret"), description="A token")
        needed: str
        folder: Path | None = None
        size: int = 3
        is_open: bool = False

    question = load_module(TEMPLATE / "scripts/bundle.py")._question
    asked = {name: question(name, field) for name, field in team_fields(Own).items()}
    assert "a default that is secret" not in json.dumps(asked)
    assert asked["token"] == {
        **{"type": "string", "title": "Token", "description": "A token"},
        **{"required": False, "sensitive": True, "default": ""},
    }
    assert (asked["needed"]["required"], "default" in asked["needed"]) == (True, False)
    assert asked["folder"]["default"] == ""
    assert (asked["size"]["type"], asked["size"]["default"]) == ("number", 3)
    assert asked["is_open"]["type"] == "boolean"


def started(unpacked: Path, database: Path) -> tuple[str, list[str], dict[str, str]]:
    """Return the command, its arguments and its environment as a desktop client fills them in."""
    found = manifest(unpacked)
    answers = {name: str(asked["default"]) for name, asked in found["user_config"].items()}
    answers["database"] = str(database)
    config = found["server"]["mcp_config"]
    environment = dict(config["env"])
    for name, answer in answers.items():
        environment = {key: text.replace(f"${{user_config.{name}}}", answer) for key, text in environment.items()}
    arguments = [text.replace("${__dirname}", str(unpacked)) for text in config["args"]]
    return config["command"], arguments, environment


async def calls(server: StdioServerParameters) -> str:
    """Call a tool with the official client."""
    async with Client(stdio_client(server)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"hello_world"}
        return str(await client.call_tool("hello_world", {"name": "Ada"}))


@pytest.mark.anyio
async def test_the_official_client_starts_it_from_where_it_was_unpacked(unpacked: Path, tmp_path: Path) -> None:
    """With this Python in the place of `uv run`, which would install the same from an index."""
    program, arguments, environment = started(unpacked, tmp_path / "orders.sqlite")
    assert (program, arguments) == ("uv", ["run", "--directory", str(unpacked), "--no-dev", SLUG, "stdio"])
    environment |= {"PYTHONPATH": str(unpacked / "src"), "SECRETS_DIR": os.devnull}
    own = ["-P", "-m", "secure_mcp_server", arguments[-1]]
    server = StdioServerParameters(command=sys.executable, args=own, env=environment, cwd=tmp_path)
    assert "Ada" in await calls(server)


@pytest.mark.slow
@pytest.mark.anyio
async def test_uv_starts_it_as_the_manifest_says(unpacked: Path, tmp_path: Path) -> None:
    """Installs from the index that uv is configured with, into a copy of the unpacked bundle."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed: pip install uv")
    copied = shutil.copytree(unpacked, tmp_path / "bundle")
    program, arguments, environment = started(copied, tmp_path / "orders.sqlite")
    uv = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_", "HTTP"))}
    server = StdioServerParameters(command=program, args=arguments, env=environment | uv, cwd=tmp_path)
    assert "Ada" in await calls(server)
