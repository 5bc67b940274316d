"""Make a bundle for desktop clients, `dist/NAME-VERSION.mcpb`: `python scripts/bundle.py`.

The server's command `bundle` does the same. A bundle is a zip with a manifest (MCPB 0.4). The client unpacks it, asks
for your own settings, and starts the server over stdio with uv, which installs what `pyproject.toml` and `uv.lock`
name. It holds no `.env`, no test and no hidden file, and the same files make the same bytes. Tools must be approved:
the server runs as in production.

With `--repository OWNER/NAME` it also writes `dist/server.json`, the entry for the MCP registry (schema of 2025-12-11)
of a bundle that is published as a release `vVERSION` of that repository on GitHub.
"""

import argparse
import hashlib
import json
import re
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from mcp_chassis.settings import team_fields

PROJECT = Path(__file__).resolve().parent.parent
_SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
_BESIDE = ("LICENSE", "README.md", "pyproject.toml", "tools.lock.json", "uv.lock")
_KINDS: dict[type, str] = {bool: "boolean", int: "number", float: "number"}
_ALWAYS = {"ENVIRONMENT": "production", "EVENTS_FILE": "none", "LOG_FORMAT": "json"}
_MAX_DESCRIPTION = 100  # characters, in the registry


def main() -> int:
    """Write the files, and print where they are."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    summary = __doc__.partition("\n")[0] if __doc__ else None
    parser = argparse.ArgumentParser(prog=f"{project['name']} bundle", description=summary)
    parser.add_argument("--repository", metavar="OWNER/NAME", help="on GitHub; also writes dist/server.json")
    repository = parser.parse_args().repository
    if repository and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/(?!\.+$)[A-Za-z0-9._-]+", repository):
        parser.error(f"--repository: {repository!r} is not of the form OWNER/NAME, as GitHub has them")
    try:
        target = _bundle(project)
    except OSError as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    print(target.relative_to(PROJECT))
    if repository:
        entry = target.with_name("server.json")
        entry.write_text(_json(registry_entry(project, repository, target)), encoding="utf-8")
        print(entry.relative_to(PROJECT))
    return 0


def _bundle(project: dict[str, Any]) -> Path:
    files = {path.relative_to(PROJECT).as_posix(): path.read_bytes() for path in _paths()}
    manifest = manifest_of(project, json.loads(files["tools.lock.json"])["tools"])
    target = PROJECT / "dist" / f"{project['name']}-{project['version']}.mcpb"
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted({**files, "manifest.json": _json(manifest).encode()}.items()):
            entry = zipfile.ZipInfo(name)  # of 1980, so that the same files make the same bytes
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return target


def _paths() -> list[Path]:
    """Return what is bundled: what a wheel would hold, and what it is built from."""
    found = [PROJECT / name for name in _BESIDE if name != "uv.lock" or (PROJECT / name).exists()]
    for path in sorted((PROJECT / "src").rglob("*")):
        parts = path.relative_to(PROJECT / "src").parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if path.is_file() and not hidden and parts[:2] != ("mcp_chassis", "testing") and path.suffix != ".pyc":
            if not path.resolve().is_relative_to(PROJECT):
                raise OSError(f"{path.relative_to(PROJECT)} leads out of the project. Replace the link by a file.")
            found.append(path)
    return found


def manifest_of(project: dict[str, Any], tools: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest.

    Args:
        project: the table of that name in `pyproject.toml`.
        tools: the approved ones of `tools.lock.json`.
    """
    package = project["scripts"][project["name"]].partition(".")[0]
    fields = team_fields(import_module(f"{package}.server").SERVER.settings)
    asked = {name: _question(name, field) for name, field in fields.items()}
    asked = {name: question for name, question in asked.items() if "default" in question or question["required"]}
    return {
        "manifest_version": "0.4",
        "name": project["name"],
        "version": project["version"],
        "description": project["description"],
        "author": project["authors"][0],
        "license": project["license"],
        "server": {
            "type": "uv",
            "entry_point": f"src/{package}/__main__.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", "--no-dev", project["name"], "stdio"],
                "env": _ALWAYS | {name.upper(): f"${{user_config.{name}}}" for name in asked},
            },
        },
        "tools": [{"name": name, "description": tool["definition"]["description"]} for name, tool in tools.items()],
        "user_config": asked,
        "compatibility": {
            "platforms": ["darwin", "linux", "win32"],
            "runtimes": {"python": project["requires-python"]},
        },
    }


def _question(name: str, field: FieldInfo) -> dict[str, Any]:
    """Return how the client asks for one setting. An optional one that is left out must reach the server as empty."""
    kinds = {field.annotation, *get_args(field.annotation)}
    kind = next((word for known, word in _KINDS.items() if known in kinds), "string")
    question: dict[str, Any] = {
        "type": kind,
        "title": name.replace("_", " ").capitalize(),
        "description": field.description or name.upper(),
        "required": field.is_required(),
        "sensitive": bool(kinds & {SecretBytes, SecretStr}),
    }
    default = field.get_default()
    if isinstance(default, str | int | float | Path):
        question["default"] = str(default) if isinstance(default, Path) else default
    elif not field.is_required() and kind == "string":
        question["default"] = ""
    return question


def registry_entry(project: dict[str, Any], repository: str, bundle: Path) -> dict[str, Any]:
    """Return the entry of the registry: where the bundle will be, and what it must be."""
    home, version = f"https://github.com/{repository}", project["version"]
    return {
        "$schema": _SCHEMA,
        "name": f"io.github.{repository.partition('/')[0]}/{project['name']}",
        "description": project["description"][:_MAX_DESCRIPTION],
        "repository": {"url": home, "source": "github"},
        "version": version,
        "packages": [
            {
                "registryType": "mcpb",
                "identifier": f"{home}/releases/download/v{version}/{bundle.name}",
                "fileSha256": hashlib.sha256(bundle.read_bytes()).hexdigest(),
                "transport": {"type": "stdio"},
            }
        ],
    }


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
