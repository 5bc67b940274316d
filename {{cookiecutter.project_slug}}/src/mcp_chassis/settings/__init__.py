"""The settings in one frozen object: environment variables, then `.env`, then a directory of secrets.

A server that is not safe as configured does not start: `load_settings` names every problem at once. Each optional room
has a settings class of its own, which `Settings.room` returns.
"""

import errno
import os
import re
import socket
from collections.abc import Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from dotenv import dotenv_values
from pydantic import PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from pydantic_settings import SettingsError as SourceError

from ..http.origins import is_loopback, shown
from ..limits.client_address import holds_most_addresses
from ..rooms import OFFERS, needs_key, rooms
from .fields import MAKE_KEY, RoomSettings, SettingsFields, faults, weakness

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
_MIN_NAME = 10  # characters: in the environment, names of other programs are close to shorter ones
_MIN_SECRET = 16  # characters: shorter ones are often words
_PASSWORD = re.compile(r"(://|:)[^\s'\"]*@")  # in a URL, or where a host was meant


class SettingsError(Exception):
    """The settings cannot be used. `problems` are sentences with what to change, without any secret."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = [_PASSWORD.sub(r"\1[redacted]@", problem) for problem in problems]
        super().__init__("\n".join(self.problems))


def cannot_listen(setting: str, host: str, port: int, error: OSError) -> SettingsError:
    """Return the error for an address that a port's setting names and that cannot be listened on."""
    host = shown(host)
    if error.errno != errno.EADDRINUSE:
        if isinstance(error, socket.gaierror):
            return SettingsError([f"{setting.replace('PORT', 'HOST')}: {host} is no address or name of this machine."])
        return SettingsError([f"{setting}: {host}:{port} cannot be listened on: {os.strerror(error.errno or 0)}."])
    option = f"`--port {port % 65_535 + 1}`, or " if setting == "PORT" else ""
    advice = f"Stop it, or choose another port: {option}{setting} in .env."
    return SettingsError([f"{setting}: another program listens on {host}:{port}. {advice}"])


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
    in_file, secret_paths = read_env_file(env_file), secret_files()
    in_files = _texts(secret_paths, _names(kind))
    sources = {"_env_file": env_file} | ({"_secrets_dir": secret_paths[0].parent} if secret_paths else {})
    problems: list[str] = []
    settings: Settings = _read(kind, sources, overrides, problems)
    settings._env_file = env_file
    for room in rooms().values():
        settings._rooms[room.settings] = _read(room.settings, sources, overrides, problems)
    problems += _of_absent_rooms(in_file, in_files)
    problems += _contradictions(settings)
    problems += [problem for room in settings._rooms.values() for problem in room.problems(settings)]
    if problems:
        raise SettingsError(problems)
    return settings


def misspelled(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield a place, and a sentence on a name in it that nothing reads and that resembles one of a setting."""
    names = _names(type(settings))
    long = {name for name in names if len(name) >= _MIN_NAME}
    for place, found, similar, likeness in (
        (".env", read_env_file(settings.env_file), names, 0.8),  # of 1: a letter or two of a name differ
        ("environment", os.environ, long, 0.9),
        ("secrets", [path.name for path in secret_files()], long, 0.9),
    ):
        for name in sorted({name.upper() for name in found} - names):
            for meant in get_close_matches(name, similar, 1, likeness):
                yield place, f"{name} is no setting. Did you mean {meant}?"


def _names(kind: type[Settings]) -> set[str]:
    """Return the names of all settings, those of absent rooms too, as the environment has them."""
    return {name.upper() for name in all_fields(kind)} | {name for offer in OFFERS for name in offer.settings}


def all_fields(kind: type[Settings] = Settings) -> Mapping[str, FieldInfo]:
    """Return every setting there is in this project, by its name in Python."""
    kinds = (kind, *(room.settings for room in rooms().values()))
    return {name: field for each in kinds for name, field in each.model_fields.items()}


def team_fields(kind: type[Settings]) -> Mapping[str, FieldInfo]:
    """Return the team's own settings, by their names in Python."""
    return {name: field for name, field in kind.model_fields.items() if name not in Settings.model_fields}


def secret_files() -> list[Path]:
    """Return what is in the directory of secrets, if there is one."""
    directory = Path(os.environ.get("SECRETS_DIR", "/run/secrets"))
    try:
        return list(directory.iterdir()) if directory.is_dir() else []
    except OSError as error:
        problem = f"SECRETS_DIR: {directory} cannot be read ({error.strerror}). Correct its rights."
        raise SettingsError([problem]) from None


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


def _texts(paths: Iterable[Path], known: Container[str]) -> dict[str, str]:
    """Return the texts of the files that are named like a setting, by names in upper case."""
    found, problems = dict[str, str](), list[str]()
    for path in paths:
        try:
            if path.name.upper() in known and path.is_file():
                found[path.name.upper()] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            problems.append(f"{path}: cannot be read as text in UTF-8. Repair or remove it.")
    if problems:
        raise SettingsError(problems)
    return found


def _read(kind: type[BaseSettings], sources: dict[str, Any], overrides: dict[str, Any], problems: list[str]) -> Any:
    """Read one class of settings. What is wrong in it by itself is added to `problems`."""
    try:
        return kind(**sources, **overrides)
    except (ValidationError, SourceError) as error:
        found = list(faults(kind, error))
    problems += dict.fromkeys(sentence for _, sentence in found)
    # The rules between the chassis's settings still have to be judged. These all have defaults, the team's may not.
    base: Any = Settings if issubclass(kind, Settings) else kind
    defaults = {name: base.model_fields[name].get_default() for name, _ in found if name in base.model_fields}
    return base(**sources, **{**overrides, **defaults})


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


def _contradictions(settings: Settings) -> Iterator[str]:
    """Yield the problems between settings, each a sentence with what to do."""
    some_key = settings.api_key or settings.keys or settings.keys_file
    if settings.enable_auth and needs_key(settings) and some_key is None:
        has_file = settings.env_file is None or settings.env_file.is_file()
        yield f"API_KEY: is missing while ENABLE_AUTH is true. {_RUN if has_file else _NO_FILE}"
    if settings.failed_auth_overall < settings.max_failed_auth_per_minute:
        yield "MAX_FAILED_AUTH_OVERALL: is smaller than MAX_FAILED_AUTH_PER_MINUTE. Leave it empty."
    if settings.api_key is not None and (reason := weakness(settings.api_key.get_secret_value())):
        make = MAKE_KEY.replace("secrets.token", '"mcp_" + secrets.token')
        yield f"API_KEY: {reason}. {make}"
    host, is_open = shown(settings.host), not is_loopback(settings.host)
    if is_open and not settings.enable_auth:
        yield f"HOST: {host} is reachable by others while ENABLE_AUTH is false. Set ENABLE_AUTH=true or HOST=127.0.0.1."
    if is_open and settings.public_url is None:
        yield (
            f"PUBLIC_URL: is needed to listen on {host}, because other Host headers are refused. "
            "Set it to the URL that clients use, such as https://mcp.example.com."
        )
    if (settings.public_url or "").endswith(settings.mcp_endpoint):
        yield f"PUBLIC_URL: clients add MCP_ENDPOINT to it. Leave out {settings.mcp_endpoint} at its end."
    if settings.environment == "production" and holds_most_addresses(settings.trusted_proxies):
        yield f"TRUSTED_PROXIES: {TRUSTS_ANYONE}"
    if settings.mcp_endpoint == settings.health_endpoint:
        yield "HEALTH_ENDPOINT: is the same as MCP_ENDPOINT. Choose two different paths."
    if settings.rate_limit_burst is not None and not settings.enable_rate_limit:
        yield "RATE_LIMIT_BURST: has no effect while ENABLE_RATE_LIMIT is false. Remove one of the two."
