"""The settings of the audit trail, and their rules."""

from pathlib import Path

from pydantic import SecretStr

from ..settings.fields import MAKE_KEY, RoomSettings, SettingsFields, weakness


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
