"""Keys files for tests."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mcp_chassis.auth.keys.format import digest, id_of, new_id, new_key
from mcp_chassis.auth.keys.records import KeyRecord
from mcp_chassis.auth.keys.store import changing_keys


def record_of(key: str, **changes: Any) -> KeyRecord:
    """Return what is stored of a key that lives for another day."""
    now = datetime.now(UTC)
    good: dict[str, Any] = {
        "id": id_of(key),
        "name": "ci",
        "scopes": ("notes:read",),
        "sha256": digest(key),
        "created": now,
        "expires": now + timedelta(days=1),
    }
    return KeyRecord(**(good | changes))


def add_key(path: Path, **changes: Any) -> str:
    """Put a new key into the file and return it."""
    key = new_key(new_id())
    put(path, record_of(key, **changes))
    return key


def put(path: Path, record: KeyRecord) -> None:
    """Add or replace a record."""
    with changing_keys(path) as keys:
        keys[record.id] = record
