"""`Service`: what a team's package hands to the chassis, named `SERVER`, in the package's `server.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog

from .approval.lint import approval_problems, unconfirmed
from .calls.output import Output
from .events.log import EventLog
from .mcp.guarded_server import GuardedServer
from .parts import Parts
from .settings import Settings, SettingsError
from .state import ApplicationState, Check, Lifespan

log = structlog.get_logger("tools")

Functions = Sequence[Callable[..., Any]]


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything that one server serves. Nothing is added later.

    Args:
        module: `__name__` of the module that holds this object as `SERVER`; other processes import it from there.
        tools: functions declared with `@tool`.
        resources: functions declared with `@resource`.
        prompts: functions declared with `@prompt`.
        settings: the settings class; a subclass of the chassis's adds the team's own.
        instructions: tells models how to use the server.
        lifespan: an `@asynccontextmanager` that opens what tools share, given the settings, yields it, and closes it.
            It is entered once per process.
        checks: by name, an `async def` that is given this state and raises while a part of it does not work:
            `/readyz` is 503 then.
    """

    module: str
    tools: Functions = ()
    resources: Functions = ()
    prompts: Functions = ()
    settings: type[Settings] = Settings
    instructions: str | None = None
    lifespan: Lifespan | None = None
    checks: Mapping[str, Check] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """The team's package."""
        return self.module.partition(".")[0]

    @property
    def directory(self) -> Path:
        """Where the team's package is; the working directory for a program that is no package."""
        spec = find_spec(self.package)
        return Path(spec.origin).resolve().parent if spec is not None and spec.origin else Path.cwd()

    @property
    def project(self) -> Path | None:
        """The directory of the project, if the package lies there as the template made it, not in a wheel."""
        package = self.directory
        root = package.parent.parent
        return root if package.parent.name == "src" and (root / "pyproject.toml").is_file() else None

    @property
    def name(self) -> str:
        """The server's name for clients, and the name of the command."""
        return self.package.replace("_", "-")

    @property
    def version(self) -> str:
        """The version of the project."""
        return version_of(self.package)

    def __reduce__(self) -> tuple[Callable[[str], "Service"], tuple[str]]:
        """Pickle a reference: a process that starts after a change of the code imports the new code."""
        return imported_service, (self.module,)

    def state(self, settings: Settings) -> ApplicationState:
        """Return the state of one process, not opened yet."""
        functions = (*self.tools, *self.resources, *self.prompts)
        return ApplicationState(self.lifespan, settings, self.checks, functions)


def imported_service(module: str) -> Service:
    """Return the service that a module holds as `SERVER`."""
    try:
        service: Service = import_module(module).SERVER
    except SyntaxError as error:  # often while `dev` runs: where it is says all
        raise SystemExit(f"{error.filename}:{error.lineno}: {error.msg}") from None
    return service


def version_of(package: str) -> str:
    """Return the version of the distribution that installs the package's command: their names may differ."""
    for script in entry_points(group="console_scripts"):
        if script.module == f"{package}.__main__" and script.dist is not None:
            return script.dist.version
    return "0.0.0"  # run from a source tree that was never installed


def build_server(service: Service, parts: Parts) -> GuardedServer:
    """Return the server that HTTP and stdio both serve.

    Raises:
        SettingsError: in production, if the tools are not as approved in the lock file.
    """
    settings = parts.settings
    state = service.state(settings)
    parts.running.append(state.running)
    parts.failing = state.failing
    server = unchecked_server(
        service,
        events=parts.events,
        state=lambda: state.value,
        max_concurrent_calls=settings.max_concurrent_calls,
        output=Output(
            events=parts.events,
            max_bytes=settings.max_result_bytes,
            max_tokens=settings.max_result_tokens,
            redact=settings.result_redaction,
            mark=settings.mark_untrusted,
        ),
        make_limiter=parts.make_limiter,
        recorder=parts.recorder,
        questions=parts.questions,
        state_keys=parts.state_keys,
        bus=parts.bus,
        handles=parts.handles,
    )
    require_approved(server, settings)
    for name, guarded in server.guarded_tools.items():
        for warning in unconfirmed(guarded.policy):
            log.warning(warning, tool=name)
    return server


def require_approved(server: GuardedServer, settings: Settings) -> None:
    """Raise SettingsError in production if the tools are not as approved in the lock file; warn elsewhere."""
    if problems := approval_problems(server.guarded_tools, settings.tools_lock, server.other_texts):
        if settings.environment == "production":
            raise SettingsError(problems)
        for line in problems:
            log.warning(line, hint="in production the server would not start")


def unchecked_server(service: Service, **parts: Any) -> GuardedServer:
    """Return the server whether its tools are approved or not; without `parts` for commands that only show them."""
    return GuardedServer(
        service.name,
        version=service.version,
        instructions=service.instructions,
        tools=service.tools,
        resources=service.resources,
        prompts=service.prompts,
        **{"events": EventLog(), **parts},
    )
