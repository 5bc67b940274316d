"""`chassis verify`: whether this project's chassis is the template's, byte for byte. It finds edits, not attackers."""

import hashlib
import sys
from pathlib import Path

from ..rooms import OFFERS, rooms
from .terminal import Commands

CHASSIS = Path(__file__).parents[1]
MANIFEST = "MANIFEST"
"""Holds a line `<SHA-256>  <path>` for every file, those of all optional packages included."""
_OPTIONAL = (*(offer.package.replace(".", "/") for offer in OFFERS), "testing")


def add_commands(commands: Commands) -> None:
    """Add the command."""
    chassis = commands.add_parser("chassis", help="check that src/mcp_chassis is as the template made it")
    verify = chassis.add_subparsers(dest="chassis_command", required=True, metavar="COMMAND").add_parser(
        "verify", help="name each file that differs; exit 1 if any does"
    )
    verify.set_defaults(run=_verify, loads=False)


def _verify(*_: object) -> int:
    if changed := differences():
        print("The chassis differs from the template's:", *(f"  {line}" for line in changed), sep="\n", file=sys.stderr)
        print("Undo the edit, or bring it to the template: an update would overwrite it.", file=sys.stderr)
        return 1
    print(summary())
    return 0


def digests(root: Path = CHASSIS) -> dict[str, str]:
    """Return the SHA-256 of every file below `root` but the manifest, by relative path."""
    paths = (path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    found = {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    found.pop(MANIFEST, None)
    return found


def differences(root: Path = CHASSIS) -> list[str]:
    """Return a line for every file that is not as the template made it. Optional packages may be absent as a whole."""
    here = digests(root)
    try:
        lines = (root / MANIFEST).read_text(encoding="ascii").splitlines()
        listed = {path: digest for digest, _, path in (line.partition("  ") for line in lines)}
    except (OSError, ValueError):
        return [f"{MANIFEST}: cannot be read. Restore it from the template."]
    absent = tuple(f"{place}/" for place in _OPTIONAL if not (root / place / "__init__.py").is_file())
    expected = {path: digest for path, digest in listed.items() if not path.startswith(absent)}
    return [
        f"{path}: {'is missing' if path not in here else 'was added' if path not in expected else 'was changed'}"
        for path in sorted(here.keys() | expected.keys())
        if here.get(path) != expected.get(path)
    ]


def summary() -> str:
    """Say which chassis this is."""
    version = (CHASSIS / "VERSION").read_text(encoding="ascii").strip()
    return f"unmodified chassis {version}, optional packages: {', '.join(rooms()) or 'none'}"
