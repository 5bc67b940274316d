"""The settings in one frozen object: environment variables, then `.env`, then a directory of secrets.

A server that is not safe as configured does not start: `load_settings` names every problem at once. Each optional room
has a settings class of its own, which `Settings.room` returns.
"""

import errno
import os
import re
import socket
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from dotenv import dotenv_values
from pydantic import PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from ..http.origins import is_loopback
from ..limits.client_address import holds_most_addresses
from ..rooms import OFFERS, needs_key, rooms
from .fields import MAKE_KEY, RoomSettings, SettingsFields, weakness

EXIT_CONFIG = 78
"""What `sysexits.h` calls EX_CONFIG."""
TRUSTS_ANYONE = "holds so many addresses that clients could forge theirs. Name the proxies' own networks only."
_RUN = "Run `python scripts/create_env.py`."
_NO_FILE = (
    "There is no .env in this directory. Run this in the project's directory, name the file with --env-file, or make "
    "one with `python scripts/create_env.py`."
)
# Of other programs' variables: `..._KEY_FILE` is a path, `KEYS` holds digests.
_SECRET_NAME = re.compile(r"(?:^|_)(?:(?:API|ACCESS|SECRET|PRIVATE|SIGNING|MASTER)_?KEY|TOKEN|SECRET|PASSWORD|PASSWD)$")
_MIN_SECRET = 16  # characters: shorter ones are often words
_MISSING = "is missing, and has no default. Set it in the environment, in .env, or as a file in SECRETS_DIR."


class SettingsError(Exception):
    """The settings cannot be used. `problems` are sentences with what to change, without any secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def cannot_listen(setting: str, host: str, port: int, error: OSError) -> SettingsError:
    """Return the error for an address that a port's setting names and that cannot be listened on."""
    if error.errno != errno.EADDRINUSE:
        if isinstance(error, socket.gaierror):
            return SettingsError([f"{setting.replace('PORT', 'HOST')}: {host} is no address or name of this machine."])
        return SettingsError([f"{setting}: {host}:{port} cannot be listened on: {os.strerror(error.errno or 0)}."])
    option = f"`--port {port % 65_535 + 1}`, or " if setting == "PORT" else ""
    advice = f"Stop it, or choose another port: {option}{setting} in .env."
    return SettingsError([f"{setting}: another program listens on {host}:{port}. {advice}"])


_Kind = TypeVar("_Kind", bound=BaseSettings)
_Room = TypeVar("_Room", bound=RoomSettings)


class Settings(SettingsFields):
    """The settings of the server. A team's class adds fields of its own."""

    _rooms: dict[type[RoomSettings], RoomSettings] = PrivateAttr(default_factory=dict)
    _env_file: Path | None = PrivateAttr(default=None)

    @property
    def env_file(self) -> Path | None:
        """Where `.env` is, or would be."""
        return self._env_file

    def room(self, kind: type[_Room]) -> _Room:
        """Return the settings of an optional room."""
        return cast(_Room, self._rooms[kind])

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must never be logged."""
        return (*super().secrets, *(secret for room in self._rooms.values() for secret in room.secrets))

    @property
    def other_secrets(self) -> tuple[str, ...]:
        """Values of other variables of the environment and `.env` that are named like a secret: tools may read them."""
        found = {**os.environ, **read_env_file(self._env_file)}.items()
        named = (value for name, value in found if _SECRET_NAME.search(name.upper()) and len(value) >= _MIN_SECRET)
        return tuple(value for value in named if value.isprintable() and not value.startswith(("/", ".", "~")))


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
    env_file: Path | None = overrides.pop("_env_file", Path(".env"))
    directory = secrets_directory()
    known = {*all_fields(kind), *(name.lower() for offer in OFFERS for name in offer.settings)}
    in_file = read_env_file(env_file)
    in_files = _read_secret_files(directory, known)
    sources = {"_env_file": env_file} | ({"_secrets_dir": directory} if directory is not None else {})
    problems: list[str] = []
    settings = _read(kind, sources, overrides, problems)
    settings._env_file = env_file
    for one in _room_kinds():
        settings._rooms[one] = _read(one, sources, overrides, problems)
    problems += _of_absent_rooms(in_file, in_files)
    problems += _contradictions(settings)
    problems += [problem for room in settings._rooms.values() for problem in room.problems(settings)]
    if problems:
        raise SettingsError(problems)
    return settings


def all_fields(kind: type[Settings] = Settings) -> Mapping[str, FieldInfo]:
    """Return every setting there is in this project, by its name in Python."""
    return {name: field for each in (kind, *_room_kinds()) for name, field in each.model_fields.items()}


def team_fields(kind: type[Settings]) -> Mapping[str, FieldInfo]:
    """Return the team's own settings, by their names in Python."""
    return {name: field for name, field in kind.model_fields.items() if name not in Settings.model_fields}


def secrets_directory() -> Path | None:
    """Return the directory of secrets, if there is one."""
    directory = Path(os.environ.get("SECRETS_DIR", "/run/secrets"))
    try:
        return directory if directory.is_dir() else None
    except OSError as error:
        raise SettingsError([f"SECRETS_DIR: {directory} cannot be reached ({error.strerror})."]) from None


def read_env_file(path: Path | None) -> dict[str, str]:
    """Return what `.env` holds, by names in upper case; nothing if there is no such file.

    Raises:
        SettingsError: if it cannot be read.
    """
    try:
        if path is None or not path.is_file():  # a FIFO would be waited for without limit
            return {}
        return {name.upper(): value or "" for name, value in dotenv_values(path, encoding="utf-8").items()}
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: is not UTF-8. Save it in that encoding."]) from None
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read ({error.strerror}). Correct its rights."]) from None


def _read_secret_files(directory: Path | None, known: Container[str]) -> dict[str, str]:
    """Return the texts of the files that are named like a setting, by names in upper case."""
    found, problems = dict[str, str](), list[str]()
    try:
        paths = list(directory.iterdir()) if directory is not None else []
    except OSError as error:
        problem = f"SECRETS_DIR: {directory} cannot be read ({error.strerror}). Correct its rights."
        raise SettingsError([problem]) from None
    for path in paths:
        try:
            if path.name.lower() in known and path.is_file():
                found[path.name.upper()] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            problems.append(f"{path}: cannot be read as text in UTF-8. Repair or remove it.")
    if problems:
        raise SettingsError(problems)
    return found


def _room_kinds() -> list[type[RoomSettings]]:
    return [room.settings for room in rooms().values()]


def _read(kind: type[_Kind], sources: Mapping[str, Any], overrides: Mapping[str, Any], problems: list[str]) -> _Kind:
    """Read one class of settings. What is wrong in it by itself is added to `problems`."""
    given = {name: value for name, value in overrides.items() if name in kind.model_fields}
    try:
        return kind(**sources, **given)
    except ValidationError as error:
        faulty = set()
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            name, says = str((*problem["loc"], "settings")[0]), problem["msg"].removeprefix("Value error, ")
            faulty.add(name)
            says = _MISSING if problem["type"] == "missing" else says
            problems.append(f"{name.upper() if problem['loc'] else name}: {says}")
    # The rules between the chassis's settings still have to be judged. These all have defaults, the team's may not.
    base: Any = Settings if issubclass(kind, Settings) else kind
    given = {name: given[name] for name in given if name in base.model_fields}
    defaults = {name: base.model_fields[name].get_default() for name in faulty if name in base.model_fields}
    return cast(_Kind, base(**sources, **(given | defaults)))


def _of_absent_rooms(in_file: Mapping[str, str], in_files: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for every setting that asks for what this project does not have."""
    # OpenTelemetry's variables are often set for all programs of a machine.
    environment = {name.upper(): value for name, value in os.environ.items() if not name.upper().startswith("OTEL_")}
    for offer in OFFERS:
        for name, neutral in offer.settings.items() if offer.package not in rooms() else ():
            value = next(filter(None, (source.get(name) for source in (environment, in_file, in_files))), "")
            word = value.strip().lower()
            if word and neutral is not None and word != neutral and (word, neutral) != ("0", "false"):
                yield offer.remedy(name, word)


def _contradictions(settings: Settings) -> list[str]:
    """Return the problems between settings, each a sentence with what to do."""
    problems = []
    some_key = settings.api_key or settings.keys or settings.keys_file
    if settings.enable_auth and needs_key(settings) and some_key is None:
        has_file = settings.env_file is None or settings.env_file.is_file()
        problems.append(f"API_KEY: is missing while ENABLE_AUTH is true. {_RUN if has_file else _NO_FILE}")
    if settings.failed_auth_overall < settings.max_failed_auth_per_minute:
        problems.append("MAX_FAILED_AUTH_OVERALL: is smaller than MAX_FAILED_AUTH_PER_MINUTE. Leave it empty.")
    if settings.api_key is not None and (reason := weakness(settings.api_key.get_secret_value())):
        make = MAKE_KEY.replace("secrets.token", '"mcp_" + secrets.token')
        problems.append(f"API_KEY: {reason}. {make}")
    if not is_loopback(settings.host):
        if not settings.enable_auth:
            problems.append(
                f"HOST: {settings.host} is reachable by others while ENABLE_AUTH is false. "
                "Set ENABLE_AUTH=true, or HOST=127.0.0.1."
            )
        if settings.public_url is None:
            problems.append(
                f"PUBLIC_URL: is needed to listen on {settings.host}, because other Host headers are refused. "
                "Set it to the URL that clients use, such as https://mcp.example.com."
            )
    if (settings.public_url or "").endswith(settings.mcp_endpoint):
        problems.append(f"PUBLIC_URL: clients add MCP_ENDPOINT to it. Leave out {settings.mcp_endpoint} at its end.")
    if settings.environment == "production" and holds_most_addresses(settings.trusted_proxies):
        problems.append(f"TRUSTED_PROXIES: {TRUSTS_ANYONE}")
    if settings.mcp_endpoint == settings.health_endpoint:
        problems.append("HEALTH_ENDPOINT: is the same as MCP_ENDPOINT. Choose two different paths.")
    if settings.rate_limit_burst is not None and not settings.enable_rate_limit:
        problems.append("RATE_LIMIT_BURST: has no effect while ENABLE_RATE_LIMIT is false. Remove one of the two.")
    return problems
