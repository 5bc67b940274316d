"""The settings in one frozen object: environment variables, then `.env`, then a directory of secrets.

A server that is not safe as configured does not start: `load_settings` names every problem at once.
"""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from .fields import SettingsFields
from .rules import contradictions

EXIT_CONFIG = 78
"""What `sysexits.h` calls EX_CONFIG."""


class SettingsError(Exception):
    """The settings cannot be used. `problems` says what to change, a sentence each, without any value of a secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(SettingsFields):
    """Settings that may stand together."""

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if problems := contradictions(self):
            raise ValueError("\n".join(problems))
        return self


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Args:
        overrides: settings that win over every source, for tests and for command-line options.

    Raises:
        SettingsError: naming every problem.
    """
    directory = secrets_directory()
    sources: dict[str, Any] = {"_secrets_dir": directory} if directory is not None else {}
    try:
        return Settings(**sources, **overrides)
    except ValidationError as error:
        problems, faulty = _sentences(error)
    except UnicodeDecodeError:
        raise SettingsError([".env: is not UTF-8. Save it in that encoding."]) from None
    if faulty:
        # The rules between settings have not run yet: ask again with the faulty ones at their defaults.
        defaults = {name: Settings.model_fields[name].default for name in faulty}
        try:
            Settings(**sources, **(overrides | defaults))
        except ValidationError as error:
            problems += _sentences(error)[0]
    raise SettingsError(problems)


def secrets_directory() -> Path | None:
    """Return the directory of secrets, if there is one."""
    directory = Path(os.environ.get("SECRETS_DIR", "/run/secrets"))
    return directory if directory.is_dir() else None


def _sentences(error: ValidationError) -> tuple[list[str], set[str]]:
    """Return a sentence for every problem, and the names of the settings that are wrong by themselves."""
    sentences, faulty = [], set()
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            name = str(problem["loc"][0])
            faulty.add(name)
            sentences.append(f"{name.upper()}: {message}")
        else:
            sentences += message.splitlines()
    return sentences, faulty
