"""`events verify`: check the chain of the audit trail."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..cli.events import explained
from ..settings import Settings, SettingsError
from . import AuditTrailSettings
from .chain import Head, derived_key, parse_head, verify


def add_verify_command(events: argparse.ArgumentParser) -> None:
    """Add it below `events`."""
    verifying = events.add_subparsers(dest="events_command", metavar="COMMAND").add_parser(
        "verify", help="check the chain of an audit trail; exit 1 if a line was changed, removed or moved"
    )
    verifying.set_defaults(run=verify_trail, listens=False)
    verifying.add_argument("files", nargs="*", type=Path, metavar="FILE", help="oldest first (default: AUDIT_FILE)")
    text, head = "a head from the server's log, which the trail must hold; may be repeated", explained(parse_head)
    verifying.add_argument("--head", action="append", type=head, default=[], metavar="NUMBER:SEAL", help=text)


def verify_trail(options: argparse.Namespace, _: object, settings: Settings) -> int:
    """Check an audit trail and print the problems. Return 1 if there are any."""
    own = settings.room(AuditTrailSettings)
    files: Sequence[Path] = options.files or [path for path in [own.audit_file] if path is not None]
    if not files or own.audit_key is None:
        missing = "AUDIT_KEY" if files else "AUDIT_FILE"
        raise SettingsError([f"{missing}: is missing. The trail is checked with what the server has written it with."])
    key = derived_key(own.audit_key.get_secret_value(), "audit chain")
    try:
        report = verify(key, (line for path in files for line in _lines(path)), options.head)
    except OSError as error:
        print(f"{error.filename}: cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    for problem in report.problems:
        print(problem)
    print(f"{report.lines} lines, head {report.head or Head()}: {'BROKEN' if report.problems else 'whole'}")
    return 1 if report.problems else 0


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size  # a server may be writing: lines added meanwhile are left out
        for line in file:
            left -= len(line)
            if left < 0:
                return
            yield line
