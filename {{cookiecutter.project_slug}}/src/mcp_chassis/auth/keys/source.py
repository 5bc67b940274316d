"""Where API keys come from: `API_KEY`, the keys file and the setting `KEYS`."""

from collections import ChainMap
from collections.abc import Container, Mapping
from datetime import UTC, datetime

from ...settings import Settings, SettingsError
from ..verifier import Verifier
from .format import ID_LENGTH, NearKey, has_key_form
from .records import KeyRecord, KeysError, default_record, parse_records
from .store import KeysFile
from .verifier import NO_KEY, KeyVerifier


class KeySource:
    """The keys that are valid now, as the settings say.

    Raises:
        SettingsError: if they cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        self._default = default_record(key) if key is not None else NO_KEY
        self._near = NearKey(key) if key is not None else None
        self._fixed = fixed_keys(settings)
        try:
            self._file = KeysFile(settings.keys_file) if settings.keys_file is not None else None
        except KeysError as error:
            sentence = f"KEYS_FILE: {settings.keys_file} cannot be used: {error}. Repair or restore it."
            raise SettingsError([sentence]) from None

    def records(self) -> Mapping[str, KeyRecord]:
        """Return the keys of the file and of `KEYS`, by id."""
        # A key that is revoked in the file stays revoked, whatever an older copy in the settings says.
        return self._fixed if self._file is None else ChainMap(self._file.records(), self._fixed)

    def revoked(self) -> list[str]:
        """Return the ids of revoked keys."""
        return [record.id for record in self.records().values() if record.revoked is not None]

    def may_be_key(self, token: str) -> bool:
        """Whether `token` may be an API key: mistyped, without its prefix, rotated, or of another server."""
        records = self.records()
        has_id = any(part[-ID_LENGTH:] in records for part in token.lower().split("_")[:-1])
        return has_id or has_key_form(token) or (self._near is not None and self._near.resembles(token))

    def problems(self) -> list[str]:
        """Return what has broken since the start."""
        return list(filter(None, [self._file.problem()])) if self._file is not None else []

    def verifiers(self, revoked: Container[str]) -> list[Verifier]:
        """Return what judges keys. Even without any key: what looks like one is no other kind of token.

        Args:
            revoked: ids of keys that were revoked elsewhere.
        """
        return [KeyVerifier(self.records, revoked, default=self._default)]

    def require_one(self) -> None:
        """Check that there is a valid key.

        Raises:
            SettingsError: if there is none: every call would be refused.
        """
        now = datetime.now(UTC)
        if self._default is NO_KEY and not any(record.state(now) == "valid" for record in self.records().values()):
            raise SettingsError(
                [
                    "API_KEY: is missing while ENABLE_AUTH is true, and KEYS_FILE and KEYS hold no key that is valid "
                    "now. Run `python scripts/create_env.py`, or `keys create --name ci --scopes notes:read`."
                ]
            )


def fixed_keys(settings: Settings) -> dict[str, KeyRecord]:
    """Return the keys in the setting `KEYS`, by id.

    Raises:
        SettingsError: if it cannot be read.
    """
    try:
        return parse_records(settings.keys.get_secret_value()) if settings.keys is not None else {}
    except KeysError as error:
        raise SettingsError([f"KEYS: cannot be used: {error}. It holds the text of a keys file."]) from None
