"""The stored form of API keys, without the secret. A keys file and the setting `KEYS` hold the same JSON."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ..principal import ALL_SCOPES, SCOPE_CHARACTER, Principal
from .format import ID_PATTERN, digest

KeyId = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@/-]{0,63}$")]
Scope = Annotated[str, Field(pattern=f"^{SCOPE_CHARACTER}{{1,128}}$")]
Label = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]{0,63}$")]
LabelValues = Annotated[tuple[Name, ...], Field(min_length=1, max_length=32)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

SOON = timedelta(days=14)  # before the end of a key, in which the operator is reminded of it


class KeysError(Exception):
    """The keys cannot be read or changed. The message is a sentence without any value."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KeyRecord(_Strict):
    """One key. While a rotation overlaps, `previous_sha256` is valid as well, until `previous_until`."""

    id: KeyId
    name: Name
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    labels: Annotated[dict[Label, LabelValues], Field(max_length=32)] | None = None
    sha256: Digest
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None
    previous_sha256: Digest | None = None
    previous_until: AwareDatetime | None = None

    @cached_property
    def principal(self) -> Principal:
        """Who calls with this key, the labels as claims: one value is plain text."""
        claims = {name: values if len(values) > 1 else values[0] for name, values in (self.labels or {}).items()}
        name = self.name if self.id != "default" else ""  # its id says it all
        return Principal(f"key:{self.id}", "key", frozenset(self.scopes), claims, name)

    def state(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        """Return the state of the key at `now`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "valid"


def default_record(key: str) -> KeyRecord:
    """Return the record of `API_KEY`: every scope, and no end. No key of a file can have its id."""
    created = datetime.fromtimestamp(0, UTC)
    return KeyRecord.model_construct(
        id="default", name="API_KEY", scopes=(ALL_SCOPES,), sha256=digest(key), created=created
    )


class _Document(_Strict):
    version: Literal[1] = 1
    keys: tuple[KeyRecord, ...] = ()


def parse_records(text: str) -> dict[str, KeyRecord]:
    """Return the records in a JSON text, by id.

    Raises:
        KeysError: naming the first place that is invalid.
    """
    try:
        records = _Document.model_validate_json(text).keys
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the text"
        raise KeysError(f"{where}: is not as `keys create` writes it") from None
    by_id = {record.id: record for record in records}
    if len(by_id) < len(records):
        raise KeysError("two keys have the same id")
    return by_id


def format_records(records: Iterable[KeyRecord]) -> str:
    """Return the JSON text of records."""
    return _Document(keys=tuple(records)).model_dump_json(indent=2, exclude_none=True) + "\n"
