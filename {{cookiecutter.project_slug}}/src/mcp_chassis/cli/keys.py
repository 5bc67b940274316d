"""`keys create`, `keys list`, `keys revoke`, `keys rotate`: the life of API keys. A key is shown once and not kept."""

import argparse
import re
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from ..auth.keys.format import digest, new_id, new_key
from ..auth.keys.records import KeyRecord, KeysError
from ..auth.keys.store import changing_keys, read_keys
from .terminal import table

_COLUMNS = ("ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "STATE")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3650)
_FORMS = {
    "name": "--name: write 1 to 64 letters, digits, spaces or . _ @ / - and begin with a letter or digit.",
    "scopes": "--scopes: write at least one, separated by commas, such as notes:read,notes:write.",
}


def add_key_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `keys` and what follows it to the command line."""
    keys = commands.add_parser("keys", help="create, list, revoke or rotate API keys")
    sub = keys.add_subparsers(dest="keys_command", required=True, metavar="COMMAND")
    create = sub.add_parser("create", help="print a new key, once, and keep its digest")
    create.add_argument("--name", required=True, help="whose it is, for lists: ci, grafana, alice@laptop")
    create.add_argument("--scopes", required=True, help="what it may do, separated by commas; * is everything")
    create.add_argument("--expires", type=lifetime, default="90d", help="90d, 12h, 30m, or never (default: 90d)")
    sub.add_parser("list", help="print a table of the keys, without any secret")
    revoke = sub.add_parser("revoke", help="end a key now")
    rotate = sub.add_parser("rotate", help="print a new secret for a key; the old one lives on for a while")
    rotate.add_argument("--overlap", type=duration, default="24h", help="how long: 24h, 7d, 0m (default: 24h)")
    for command in (revoke, rotate):
        command.add_argument("id", metavar="ID", help="as `keys list` shows it")


def run_key_command(
    options: argparse.Namespace,
    path: Path,
    *,
    fixed: Mapping[str, KeyRecord],
    known_scopes: Collection[str],
    tell: Callable[[str], bool] | None = None,
) -> int:
    """Run one of them.

    Args:
        options: the command line.
        path: the keys file.
        fixed: keys from the settings, which are listed and cannot be changed here.
        known_scopes: what the server's tools ask for.
        tell: tells all replicas that a key is revoked, and returns whether it could.

    Returns:
        the exit code.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        if options.keys_command == "list":
            return _list({**fixed, **read_keys(path)}, now)
        if options.keys_command == "create":
            return _create(path, options, known_scopes, now)
        if options.keys_command == "rotate":
            return _rotate(path, options.id, options.overlap, now)
        return _revoke(path, options.id, fixed, tell, now)
    except KeysError as error:
        _say(f"{path}: {error}.")
        return 1


def duration(text: str) -> timedelta:
    """Return what `90d`, `12h` or `30m` stand for."""
    match = re.fullmatch(r"(\d{1,7})([mhd])", text, re.ASCII)
    if match is None or (value := timedelta(**{_UNITS[match[2]]: int(match[1])})) > _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90d, 12h or 30m, of ten years at most")
    return value


def lifetime(text: str) -> timedelta | None:
    """Return the lifetime of a key; None is for ever."""
    if text == "never":
        return None
    if not (value := duration(text)):
        raise argparse.ArgumentTypeError("a key must live for a while")
    return value


def _create(path: Path, options: argparse.Namespace, known_scopes: Collection[str], now: datetime) -> int:
    key_id = new_id()
    key = new_key(key_id)
    scopes = sorted({scope.strip() for scope in options.scopes.split(",")} - {""})
    expires = None if options.expires is None else now + options.expires
    try:
        record = KeyRecord(
            id=key_id, name=options.name, scopes=tuple(scopes), sha256=digest(key), created=now, expires=expires
        )
    except ValidationError as error:
        _say(_FORMS[str(error.errors()[0]["loc"][0])])
        return 2
    with changing_keys(path) as keys:
        if any(other.name == record.name and other.state(now) == "valid" for other in keys.values()):
            raise KeysError(
                f"there is a valid key of the name {record.name!r}: choose another name, or rotate that one"
            )
        keys[key_id] = record
    print(key)
    _say(f"Key {key_id} ({record.name}) for {' '.join(scopes)}, until {_time(expires)}. It is not shown again.")
    for scope in scopes:
        if scope not in known_scopes and scope != "*":
            _say(f"Note: no tool of this server asks for the scope {scope}.")
    return 0


def _revoke(
    path: Path, key_id: str, fixed: Mapping[str, KeyRecord], tell: Callable[[str], bool] | None, now: datetime
) -> int:
    """Revoke a key here and on all replicas, where it may be in the settings, or in another machine's file."""
    with changing_keys(path) as keys:
        record = _find(keys if tell is None else {**fixed, **keys}, key_id)
        if tell is None and record.revoked is not None:
            raise KeysError(f"{record.id} is revoked already")
        if key_id in keys and record.revoked is None:
            keys[key_id] = record.model_copy(update={"revoked": now})
    if tell is not None and not tell(key_id):
        _say(f"Redis could not be reached, so not every replica knows that {key_id} is revoked. Run this again.")
        return 1
    _say(f"Revoked {record.id} ({record.name}). Running servers refuse it within two seconds.")
    return 0


def _rotate(path: Path, key_id: str, overlap: timedelta, now: datetime) -> int:
    """Give a key a new secret, which lives as long as the old one did. That one does not outlive itself."""
    with changing_keys(path) as keys:
        record = _find(keys, key_id)
        if record.revoked is not None:
            raise KeysError(f"{record.id} is revoked already")
        key, expires, end = new_key(record.id), record.expires, now + overlap
        keys[record.id] = rotated = record.model_copy(
            update={
                "sha256": digest(key),
                "created": now,
                "expires": None if expires is None else now + min(expires - record.created, _LONGEST),
                "previous_sha256": record.sha256,
                "previous_until": end if expires is None else min(end, expires),
            }
        )
    print(key)
    _say(f"New secret of {record.id} ({record.name}); the one before ends at {_time(rotated.previous_until)}.")
    return 0


def _find(keys: Mapping[str, KeyRecord], key_id: str) -> KeyRecord:
    if key_id not in keys:
        raise KeysError(f"there is no key {key_id!r} in it. `keys list` shows those there are")
    return keys[key_id]


def _list(keys: Mapping[str, KeyRecord], now: datetime) -> int:
    rows = [_COLUMNS, *(_row(record, now) for record in sorted(keys.values(), key=lambda key: (key.name, key.created)))]
    print(table(rows))
    return 0


def _row(record: KeyRecord, now: datetime) -> tuple[str, ...]:
    state: str = record.state(now)
    if state == "valid" and record.previous_until is not None and now < record.previous_until:
        state = f"valid, the one before until {_time(record.previous_until)}"
    times = _time(record.created), _time(record.expires)
    return record.id, record.name, " ".join(record.scopes), *times, state


def _time(moment: datetime | None) -> str:
    return "never" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def _say(text: str) -> None:
    """Tell the person: standard output belongs to the key, so that it can be piped into a secret store."""
    print(text, file=sys.stderr)
