"""The settings in one frozen object: environment variables, then `.env`, then a directory of secrets.

A server that is not safe as configured does not start: `load_settings` names every problem at once. Each optional room
has a settings class of its own, which `Settings.room` returns.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from dotenv import dotenv_values
from pydantic import PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from ..rooms import OFFERS, needs_key, rooms
from .fields import RoomSettings, SettingsFields
from .rules import contradictions

EXIT_CONFIG = 78
"""What `sysexits.h` calls EX_CONFIG."""


class SettingsError(Exception):
    """The settings cannot be used. `problems` are sentences with what to change, without any secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


_Kind = TypeVar("_Kind", bound=BaseSettings)
_Room = TypeVar("_Room", bound=RoomSettings)


class Settings(SettingsFields):
    """The settings of the server. A team's class adds fields of its own."""

    _rooms: dict[type[RoomSettings], RoomSettings] = PrivateAttr(default_factory=dict)

    def room(self, kind: type[_Room]) -> _Room:
        """Return the settings of an optional room."""
        return cast(_Room, self._rooms[kind])

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must never be logged."""
        return (*super().secrets, *(secret for room in self._rooms.values() for secret in room.secrets))


_Settings = TypeVar("_Settings", bound=Settings)


@overload
def load_settings(**overrides: Any) -> Settings: ...


@overload
def load_settings(kind: type[_Settings], /, **overrides: Any) -> _Settings: ...


def load_settings(kind: type[Settings] = Settings, /, **overrides: Any) -> Settings:
    """Read the settings.

    Args:
        kind: the class of the settings; a team's adds fields.
        overrides: settings that win over every source, for tests and for command-line options.

    Raises:
        SettingsError: naming every problem.
    """
    directory = secrets_directory()
    env_file = overrides.pop("_env_file", kind.model_config.get("env_file"))
    sources: dict[str, Any] = {"_env_file": env_file}
    if directory is not None:
        sources["_secrets_dir"] = directory
    problems: list[str] = []
    try:
        settings = _read(kind, sources, overrides, problems)
        for one in _room_kinds():
            settings._rooms[one] = _read(one, sources, overrides, problems)
        problems += _of_absent_rooms(env_file, directory)
    except UnicodeDecodeError:
        raise SettingsError([".env: is not UTF-8. Save it in that encoding."]) from None
    problems += contradictions(settings, needs_key=needs_key(settings))
    problems += [problem for room in settings._rooms.values() for problem in room.problems(settings)]
    if problems:
        raise SettingsError(problems)
    return settings


def all_fields(kind: type[Settings] = Settings) -> Mapping[str, FieldInfo]:
    """Return every setting there is in this project, by its name in Python."""
    return {name: field for each in (kind, *_room_kinds()) for name, field in each.model_fields.items()}


def secrets_directory() -> Path | None:
    """Return the directory of secrets, if there is one."""
    directory = Path(os.environ.get("SECRETS_DIR", "/run/secrets"))
    return directory if directory.is_dir() else None


def _room_kinds() -> list[type[RoomSettings]]:
    return [room.settings for room in rooms().values()]


def _read(kind: type[_Kind], sources: Mapping[str, Any], overrides: Mapping[str, Any], problems: list[str]) -> _Kind:
    """Read one class of settings; those that are wrong by themselves are named and get their defaults."""
    given = {name: value for name, value in overrides.items() if name in kind.model_fields}
    try:
        return kind(**sources, **given)
    except ValidationError as error:
        faulty = set()
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            name = str(problem["loc"][0])
            faulty.add(name)
            problems.append(f"{name.upper()}: {problem['msg'].removeprefix('Value error, ')}")
    # The rules between settings still have to be judged.
    return kind(**sources, **(given | {name: kind.model_fields[name].get_default() for name in faulty}))


def _of_absent_rooms(env_file: Any, directory: Path | None) -> Iterator[str]:
    """Yield a sentence for every setting that asks for what this project does not have."""
    in_file = dotenv_values(env_file) if env_file is not None else {}
    secret_files = {path.name.lower(): path for path in directory.iterdir()} if directory is not None else {}
    # OpenTelemetry's variables are often set for all programs of a machine.
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("OTEL_")}
    given = [{name.upper(): value for name, value in source.items()} for source in (environment, in_file)]
    for offer in OFFERS:
        for name, neutral in offer.settings.items() if offer.package not in rooms() else ():
            values = (source.get(name) for source in given)
            value = next(filter(None, values), None) or _secret(secret_files.get(name.lower()))
            word = value.strip().lower()
            if word and neutral is not None and word != neutral and (word, neutral) != ("0", "false"):
                yield offer.remedy(name, word)


def _secret(path: Path | None) -> str:
    try:
        return path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
    except (OSError, UnicodeDecodeError):
        raise SettingsError([f"{path}: cannot be read as text in UTF-8. Repair or remove it."]) from None
