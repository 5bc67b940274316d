"""`keys create`, `keys list`, `keys revoke`, `keys rotate`: the life of API keys. A key is shown once and not kept."""

import argparse
import re
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from ..auth.keys.days import days_of_use
from ..auth.keys.format import digest, new_id, new_key
from ..auth.keys.records import KeyRecord, KeysError
from ..auth.keys.store import changing_keys, fixed_keys, read_keys
from ..rooms import rooms
from ..service import Service, unchecked_server
from ..settings import Settings, SettingsError
from .terminal import Commands, table

_COLUMNS = ("ID", "NAME", "SCOPES", "LABELS", "CREATED", "EXPIRES", "LAST USED", "STATE")
_PAGE_SCOPES = {"events:read", "metrics:read"}
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_MAX_LIFETIME = timedelta(days=3650)
_IDLE = timedelta(days=30)
_FORMS = {
    "name": "--name: write 1 to 64 letters, digits, spaces or . _ @ / - and begin with a letter or digit.",
    "scopes": "--scopes: write at least one, separated by commas, such as notes:read,notes:write.",
    "labels": "--label: write name=value, such as tenant=acme: a name of letters and digits, a value as for --name.",
}


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    keys = commands.add_parser("keys", help="create, list, revoke or rotate API keys")
    keys.set_defaults(run=_run, listens=False)
    sub = keys.add_subparsers(dest="keys_command", required=True, metavar="COMMAND")
    create = sub.add_parser("create", help="print a new key, once, and keep its digest")
    create.add_argument("--name", required=True, help="whose it is, for lists: ci, grafana, alice@laptop")
    create.add_argument("--scopes", required=True, help="what it may do, separated by commas; * is everything")
    create.add_argument("--expires", type=_lifetime, default="90d", help="90d, 12h, 30m, or never (default: 90d)")
    text = "a claim of its caller, such as tenant=acme; repeat it for more"
    create.add_argument("--label", action="append", default=[], dest="labels", metavar="NAME=VALUE", help=text)
    create.set_defaults(change=_create)
    sub.add_parser("list", help="print a table of the keys, without any secret").set_defaults(change=_list)
    revoke = sub.add_parser("revoke", help="end a key now")
    revoke.set_defaults(change=_revoke)
    rotate = sub.add_parser("rotate", help="print a new secret for a key; the old one stays valid for a while")
    rotate.add_argument("--overlap", type=_duration, default="24h", help="how long: 24h, 7d, 0m (default: 24h)")
    rotate.set_defaults(change=_rotate)
    for command in (revoke, rotate):
        command.add_argument("key", metavar="ID|NAME", help="as `keys list` shows it")


def _run(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    path = settings.keys_file
    if path is None:
        raise SettingsError(["KEYS_FILE: is missing. Set it to the file that holds the keys, such as keys/keys.json."])
    try:
        return int(options.change(path, options, service, settings))
    except KeysError as error:
        _say(f"{path}: {error}.")
        return 1


def _duration(text: str) -> timedelta:
    """Return what `90d`, `12h` or `30m` stand for."""
    match = re.fullmatch(r"(\d{1,7})([mhd])", text, re.ASCII)
    if match is None or (value := timedelta(**{_UNITS[match[2]]: int(match[1])})) > _MAX_LIFETIME:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90d, 12h or 30m, of ten years at most")
    return value


def _lifetime(text: str) -> timedelta | None:
    """Return the lifetime of a key; None is without limit."""
    if text == "never":
        return None
    if not (value := _duration(text)):
        raise argparse.ArgumentTypeError("a key must live for a while")
    return value


def _create(path: Path, options: argparse.Namespace, service: Service, _: Settings) -> int:
    known_scopes = unchecked_server(service).access.scopes | _PAGE_SCOPES
    key_id, now = new_id(), _now()
    key = new_key(key_id)
    scopes = sorted({scope.strip() for scope in options.scopes.split(",")} - {""})
    expires = None if options.expires is None else now + options.expires
    labels: dict[str, list[str]] = {}
    for name, _, value in (label.partition("=") for label in options.labels):
        labels.setdefault(name, []).append(value)
    try:
        record = KeyRecord(
            id=key_id,
            name=options.name,
            scopes=tuple(scopes),
            labels={name: tuple(values) for name, values in labels.items()} or None,
            sha256=digest(key),
            created=now,
            expires=expires,
        )
    except ValidationError as error:
        _say(_FORMS[str(error.errors()[0]["loc"][0])])
        return 2
    with changing_keys(path) as keys:
        if any(other.name == record.name and other.state(now) == "valid" for other in keys.values()):
            raise KeysError(f"there is a valid key of the name {record.name!r}: choose another, or rotate that one")
        keys[key_id] = record
    print(key)
    _say(f"Key {key_id} ({record.name}) for {' '.join(scopes)}, until {_time(expires)}. It is not shown again.")
    for scope in sorted({*scopes} - known_scopes - {"*"}):
        _say(f"Note: no tool of this server asks for the scope {scope}.")
    return 0


def _revoke(path: Path, options: argparse.Namespace, service: Service, settings: Settings) -> int:
    """Revoke a key here and on all replicas, where it may be in the settings, or in another machine's file."""
    revokers = [room.revoker(service, settings) for room in rooms().values()]
    elsewhere = next((revoke for revoke in revokers if revoke is not None), None)
    with changing_keys(path) as keys:
        record = _find(keys if elsewhere is None else {**fixed_keys(settings), **keys}, options.key)
        if elsewhere is None and record.revoked is not None:
            raise KeysError(f"{record.id} is revoked already")
        if record.id in keys and record.revoked is None:
            keys[record.id] = record.model_copy(update={"revoked": _now()})
    if elsewhere is not None and not elsewhere(record.id):
        _say(f"Redis could not be reached, so not every replica knows that {record.id} is revoked. Run this again.")
        return 1
    _say(f"Revoked {record.id} ({record.name}). Running servers refuse it within two seconds.")
    return 0


def _rotate(path: Path, options: argparse.Namespace, *_: object) -> int:
    """Give a key a new secret with the lifetime of the old one, which keeps its own end if that is earlier."""
    now = _now()
    with changing_keys(path) as keys:
        record = _find(keys, options.key)
        if record.revoked is not None:
            raise KeysError(f"{record.id} is revoked already")
        if options.overlap and record.previous_until is not None and now < record.previous_until:
            until = _time(record.previous_until)
            raise KeysError(
                f"{record.id} was rotated, and its secret before that is valid until {until}. A second rotation would "
                "end it now: wait until then, or end both earlier secrets with --overlap 0m"
            )
        key, expires, end = new_key(record.id), record.expires, now + options.overlap
        keys[record.id] = rotated = record.model_copy(
            update={
                "sha256": digest(key),
                "created": now,
                "expires": None if expires is None else now + min(expires - record.created, _MAX_LIFETIME),
                "previous_sha256": record.sha256,
                "previous_until": end if expires is None else min(end, expires),
            }
        )
    print(key)
    _say(f"New secret of {record.id} ({record.name}); the one before ends at {_time(rotated.previous_until)}.")
    return 0


def _find(keys: Mapping[str, KeyRecord], key: str) -> KeyRecord:
    """Return the key with that id or, if it is no id, the one with that name; revoked ones only if no other has it."""
    if key in keys:
        return keys[key]
    named = [record for record in keys.values() if record.name == key]
    found = [record for record in named if record.revoked is None] or named
    if not found:
        raise KeysError(f"there is no key {key!r} in it. `keys list` shows those there are")
    if len(found) > 1:
        raise KeysError(f"{len(found)} keys have the name {key!r}: give the id, {' or '.join(r.id for r in found)}")
    return found[0]


def _list(path: Path, _: argparse.Namespace, service: Service, settings: Settings) -> int:
    keys = {**fixed_keys(settings), **read_keys(path)}
    ordered, now = sorted(keys.values(), key=lambda key: (key.name, key.created)), _now()
    here = days_of_use(settings.events_file)
    days = here or {}
    for room in rooms().values():
        days |= {key: max(day, days.get(key, "")) for key, day in room.days_of_use(service, settings).items()}
    unknown = "unknown" if here is None and not days else "never"
    print(table([_COLUMNS, *(_row(record, now, _used(days.get(record.id, ""), now, unknown)) for record in ordered)]))
    return 0


def _used(day: str, now: datetime, unknown: str) -> str:
    """Say when a key was last used; `unknown` if `day` is no date."""
    try:
        used = date.fromisoformat(day)
    except ValueError:
        return unknown
    idle = now.date() - used
    return f"{used}, {idle.days} days ago" if idle > _IDLE else str(used)


def _row(record: KeyRecord, now: datetime, used: str) -> tuple[str, ...]:
    state: str = record.state(now)
    if state == "valid" and record.previous_until is not None and now < record.previous_until:
        state = f"valid, the one before until {_time(record.previous_until)}"
    times = _time(record.created), _time(record.expires)
    labels = (f"{name}={value}" for name, values in (record.labels or {}).items() for value in values)
    return record.id, record.name, " ".join(record.scopes), " ".join(labels), *times, used, state


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _time(moment: datetime | None) -> str:
    return "never" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def _say(text: str) -> None:
    """Print to standard error: standard output is for the key, so that it can be piped into a secret store."""
    print(text, file=sys.stderr)
