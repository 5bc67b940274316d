"""The optional rooms of the chassis: packages that a project has only if it asked for them.

Only this module imports a room. Everything else meets it through the hooks of `Room`, whose defaults do nothing.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

    from .parts import Parts
    from .service import Service
    from .settings import Settings
    from .settings.fields import RoomSettings


@dataclass(frozen=True)
class Finding:
    """One line of the report of `check`. What is not OK says what to do."""

    level: Literal["OK", "WARN", "FAIL"]
    about: str
    text: str


class Room:
    """What an optional package may add to the server."""

    settings: "ClassVar[type[RoomSettings]]"

    def authenticates(self, settings: "Settings") -> bool:
        """Whether it accepts credentials of its own, so that no key is needed."""
        return False

    def assemble(self, parts: "Parts") -> None:
        """Add its parts to those of the server."""

    def around(self, settings: "Settings", *, processes: int) -> AbstractContextManager[None]:
        """Return what is entered around the whole of `serve`, once for all of its processes."""
        return nullcontext()

    def processes(self, settings: "Settings") -> int:
        """Return how many processes serve."""
        return 1

    def serve(self, service: "Service", settings: "Settings") -> bool:
        """Serve in a way of its own, and return True when that has ended; else False at once."""
        return False

    def add_commands(self, commands: "_SubParsersAction[ArgumentParser]") -> None:
        """Add its commands and options; each parser sets `run`."""

    def revoker(self, service: "Service", settings: "Settings") -> Callable[[str], bool] | None:
        """Return what revokes a key on other machines and returns whether it could; None if there are none."""
        return None

    def days_of_use(self, service: "Service", settings: "Settings") -> Mapping[str, str]:
        """Return the day on which each key was last used on other machines, by its id."""
        return {}

    def findings(self, service: "Service", settings: "Settings") -> Iterator[Finding]:
        """Yield its lines of the report of `check`."""
        yield from ()


@dataclass(frozen=True)
class Offer:
    """A room that a project may ask for: a package below `mcp_chassis`, and the question and answer that bring it."""

    package: str
    question: str
    answer: str
    settings_text: str
    """Names of its settings, each with the value that asks for nothing; `*` where any value may be left over."""

    @property
    def settings(self) -> Mapping[str, str | None]:
        """Its settings with those values; None for any."""
        parts = (item.partition("=") for item in self.settings_text.split())
        return {name: None if value == "*" else value for name, _, value in parts}

    @property
    def command(self) -> str:
        """What adds it to a project."""
        return f'uvx cruft update --variables-to-update \'{{"{self.question}": "{self.answer}"}}\''

    def remedy(self, name: str, value: str) -> str:
        """Say what to do about one of its settings in a project without it."""
        if (name, value) == ("AUTH_MODE", "none"):
            return "AUTH_MODE: none is not a kind of credential. To serve without any, set ENABLE_AUTH=false instead."
        return (
            f"{name}: has no effect, as this project was made without {self.package}. Remove it from the settings. "
            f"Or add the package, and install again: {self.command}"
        )


OFFERS = (
    Offer(
        "auth.oauth",
        "auth",
        "oauth",
        "AUTH_MODE=api-key OAUTH_PROVIDER=generic OAUTH_ISSUER OAUTH_AUDIENCE OAUTH_AUDIENCE_CLAIMS "
        "OAUTH_ALLOWED_CLIENTS OAUTH_REQUIRED_CLAIMS OAUTH_SUBJECT_CLAIMS OAUTH_SCOPE_CLAIMS OAUTH_SCOPE_MAP "
        "OAUTH_SCOPE_PREFIX OAUTH_BASE_SCOPES OAUTH_LIST_ALL=true OAUTH_JWKS_URL OAUTH_CA_FILE OAUTH_PROXY "
        "OAUTH_NETWORKS OAUTH_ALLOW_HTTP_ISSUER=false OAUTH_MAX_TOKEN_LIFETIME=86400 OAUTH_CLAIMS "
        "OAUTH_INTROSPECTION_URL OAUTH_RECHECK_SECONDS=1 OAUTH_TOKEN_URL OAUTH_CLIENT_ID OAUTH_CLIENT_SECRET",
    ),
    Offer(
        "replicas",
        "rate_limit",
        "redis",
        # Older projects have a STATE_SECRET in .env, in use or not.
        "REDIS_URL REDIS_TIMEOUT=0.25 RATE_LIMIT_ON_OUTAGE=local REPLICAS=1 WORKERS=1 STATE_SECRET=*",
    ),
    Offer("audit_trail", "audit_trail", "yes", "AUDIT_FILE AUDIT_KEY"),
    Offer("evals", "evals", "yes", "EVAL_API=openai EVAL_URL EVAL_MODEL EVAL_KEY"),
    Offer("telemetry", "observability", "metrics", "METRICS_PORT METRICS_HOST=127.0.0.1"),
    Offer("tracing", "observability", "metrics-and-traces", "OTEL_EXPORTER_OTLP_ENDPOINT"),
)


@functools.cache
def imported(package: str) -> ModuleType | None:
    """Return a package or module of the chassis, or None if this project does not have it."""
    name = f"{__package__}.{package}"
    parent = package.rpartition(".")[0]
    spec = find_spec(name) if not parent or imported(parent) is not None else None
    # Without an origin it is a directory whose files were removed, but for `__pycache__`.
    return import_module(name) if spec is not None and spec.origin is not None else None


@functools.cache
def rooms() -> Mapping[str, Room]:
    """Return the rooms of this project by their packages."""
    found = ((offer.package, imported(offer.package)) for offer in OFFERS)
    return {package: module.ROOM for package, module in found if module is not None}


def needs_key(settings: "Settings") -> bool:
    """Whether API keys are the only credentials."""
    return not any(room.authenticates(settings) for room in rooms().values())
