"""The settings in one frozen object: environment variables, then `.env`, then a directory of secrets.

A server that is not safe as configured does not start: `load_settings` names every problem at once.
"""

import os
from pathlib import Path
from typing import Any, Self, TypeVar, overload

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
    directory = Path(os.environ.get("SECRETS_DIR", "/run/secrets"))
    sources: dict[str, Any] = {"_secrets_dir": directory} if directory.is_dir() else {}
    try:
        return kind(**sources, **overrides)
    except ValidationError as error:
        problems, faulty = _sentences(error)
    except UnicodeDecodeError:
        raise SettingsError([".env: is not UTF-8. Save it in that encoding."]) from None
    if faulty:
        # The rules between settings have not run yet: ask again with the faulty ones at their defaults.
        defaults = {name: kind.model_fields[name].default for name in faulty}
        try:
            kind(**sources, **(overrides | defaults))
        except ValidationError as error:
            problems += _sentences(error)[0]
    raise SettingsError(problems)


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
