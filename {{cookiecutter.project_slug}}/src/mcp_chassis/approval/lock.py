"""The lock file: the description, schemas and policy of every tool, as a reviewer approved them.

A model chooses tools by their descriptions. One that changes after the approval (a rug pull) is detected here.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from ..calls.tools import GuardedTool
from ..http.strict_json import InvalidJson, parse_json


class LockError(Exception):
    """The lock file cannot be read. The message says what to do."""


class _Entry(BaseModel):
    sha256: str
    definition: dict[str, Any]


class _Document(BaseModel):
    version: Literal[1]
    tools: dict[str, _Entry]


def definition(guarded: GuardedTool) -> dict[str, Any]:
    """Return everything of a tool that a client or the guard goes by."""
    tool, policy = guarded.tool, guarded.policy
    # Only where they differ from what follows from the rest: a lock of before they existed stays valid.
    marks = {"untrusted": policy.untrusted} if policy.untrusted != policy.open_world else {}
    marks |= {} if policy.redact else {"redact": False}
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": tool.parameters,
        "outputSchema": tool.output_schema,
        "annotations": tool.annotations.model_dump(by_alias=True, mode="json") if tool.annotations else None,
        "policy": {
            "scopes": sorted(policy.scopes),
            "timeout": policy.timeout,
            "callsPerMinute": policy.calls_per_minute,
            "maxConcurrency": policy.max_concurrency,
            "confirm": policy.confirm,
            "blocking": guarded.blocking,
            **marks,
        },
    }


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted members, no space, ASCII (after RFC 8785)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def write_lock(path: Path, tools: Mapping[str, GuardedTool]) -> None:
    """Record `tools` as approved."""
    described = {name: definition(guarded) for name, guarded in tools.items()}
    entries = {name: _Entry(sha256=digest(text), definition=text) for name, text in described.items()}
    document = _Document(version=1, tools=entries).model_dump()
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")


def differences(path: Path, tools: Mapping[str, GuardedTool]) -> list[str]:
    """Return what has changed since the lock, as readable lines; nothing if all is as approved.

    Raises:
        LockError: if there is no usable lock.
    """
    locked = _read(path)
    lines = []
    for name in sorted(locked.keys() | tools.keys()):
        approved, now = locked.get(name), tools.get(name)
        if approved is not None and digest(approved.definition) != approved.sha256:
            lines.append(f"{name}: the lock file was edited by hand, its digest does not fit")
        if approved is None or now is None:
            lines.append(f"{name}: {'is not in the lock file' if approved is None else 'is gone'}")
        elif digest(definition(now)) != digest(approved.definition):
            lines += _diff(name, approved.definition, definition(now))
    return lines


def locked_digests(path: Path) -> dict[str, str]:
    """Return the approved digest of every tool.

    Raises:
        LockError: if there is no usable lock.
    """
    return {name: entry.sha256 for name, entry in _read(path).items()}


def _read(path: Path) -> dict[str, _Entry]:
    try:
        # Strictly: of two entries of one tool, a reviewer could see one and the server read the other.
        return _Document.model_validate(parse_json(path.read_bytes(), max_nodes=1_000_000)).tools
    except FileNotFoundError:
        raise LockError(f"TOOLS_LOCK: {path} is missing: review the tools, then run `tools lock`") from None
    except (OSError, InvalidJson, ValidationError):
        raise LockError(
            f"TOOLS_LOCK: {path} cannot be read: restore it, or review the tools and run `tools lock`"
        ) from None


def _diff(name: str, approved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    before, after = (
        json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True).splitlines() for value in (approved, now)
    )
    return [f"{name}: has changed", *difflib.unified_diff(before, after, "approved", "now", lineterm="", n=1)]
