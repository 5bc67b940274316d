"""The audit trail: a file of every call, sealed as a chain, so that a change of it shows."""

import argparse
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ..cli.file_rights import WRITE_OR_READ_BY_ALL, too_open
from ..counters import count_audit_lines
from ..rooms import Finding, Room
from ..settings.fields import MAKE_KEY, RoomSettings, SettingsFields, weakness

if TYPE_CHECKING:
    from ..parts import Parts
    from ..service import Service
    from ..settings import Settings
    from .trail import AuditTrail


class AuditTrailSettings(RoomSettings):
    """Where the audit trail is written, and what seals it."""

    audit_file: Path | None = None
    audit_key: SecretStr | None = None

    def problems(self, settings: SettingsFields) -> list[str]:
        """Return why the trail cannot be sealed."""
        problems = []
        key = self.audit_key.get_secret_value() if self.audit_key is not None else None
        if self.audit_file is not None and key is None:
            problems.append(f"AUDIT_KEY: is missing while AUDIT_FILE is set. {MAKE_KEY}")
        if key is not None and (reason := weakness(key)):
            problems.append(f"AUDIT_KEY: {reason}. {MAKE_KEY}")
        if key is not None and settings.api_key is not None and key == settings.api_key.get_secret_value():
            problems.append(f"AUDIT_KEY: is the same as API_KEY, which clients know. {MAKE_KEY}")
        return problems


class AuditTrailRoom(Room):
    """Writes the trail, and checks it."""

    settings = AuditTrailSettings

    def assemble(self, parts: "Parts") -> None:
        """Record calls and refused requests, if there is a file for them."""
        own = parts.settings.room(AuditTrailSettings)
        if own.audit_file is None or own.audit_key is None:
            return
        from ..settings import SettingsError  # noqa: PLC0415
        from .records import TrailRecorder  # noqa: PLC0415
        from .trail import AuditTrail  # noqa: PLC0415

        try:
            trail = AuditTrail(own.audit_file, own.audit_key.get_secret_value(), service=parts.name)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SettingsError([f"AUDIT_FILE: {own.audit_file} cannot be written: {reason}."]) from None
        count_audit_lines(0, written=True)  # announces the metric
        parts.recorder = TrailRecorder(trail)
        parts.problems.append(trail.problems)
        parts.running.append(lambda: _written(trail))

    def add_commands(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Add `events verify`."""
        from .verify_command import add_verify_command  # noqa: PLC0415

        add_verify_command(commands.choices["events"])

    def findings(self, service: "Service", settings: "Settings") -> Iterator[Finding]:
        """Report whether the file can be written, and by which others. It is not opened: that would create it."""
        path = settings.room(AuditTrailSettings).audit_file
        if path is None:
            return
        for problem in too_open(path, WRITE_OR_READ_BY_ALL):
            yield Finding("WARN", "audit file", problem)
        if os.access(path if path.exists() else Path(path.parent), os.W_OK):
            yield Finding("OK", "audit trail", f"{path} can be written")
        else:
            text = f"{path} cannot be written: the server would not start. Give it rights."
            yield Finding("FAIL", "audit trail", text)


@asynccontextmanager
async def _written(trail: "AuditTrail") -> AsyncIterator[None]:
    trail.start()
    try:
        yield
    finally:
        trail.close()


ROOM = AuditTrailRoom()
