"""The application state: what tools share, such as a pool of connections. One per process, opened before the first
request and closed after the last, over HTTP and stdio alike.
"""

import asyncio
import functools
import inspect
import re
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import structlog
from mcp.server.mcpserver import Context, Resolve

from .events.untrusted import shown
from .settings import Settings, SettingsError

log = structlog.get_logger("state")

EXIT_UNAVAILABLE = 69  # of `sysexits.h`: something that the server needs could not be opened
_CHECK_SECONDS = 2.0
_CLOSE_SECONDS = 10.0  # as long as a container's stop waits
_USER = re.compile(r"(?<=://)\S*@")  # and a password, in the URL of a database
_FRESH_SECONDS = 1.0  # every probe asks, and anyone may probe

_State = TypeVar("_State")
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]
Check = Callable[[Any], Awaitable[None]]


async def _of_call(context: Context[Any, Any]) -> Any:
    return context.request_context.lifespan_context


Shared = Annotated[_State, Resolve(_of_call)]
"""The state as a parameter of a tool, resource or prompt: `desk: Shared[OrderDesk]`. It is in no schema."""


def _code(function: Callable[..., Any] | None) -> CodeType:
    code: CodeType = getattr(inspect.unwrap(function or _of_call), "__code__", _of_call.__code__)
    return code


class StartError(Exception):
    """The state could not be opened. The message is a sentence for the operator, its cause first."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The server cannot start: {reason}.")


def shared_parameters(function: Callable[..., Any]) -> dict[str, type]:
    """Return the parameters of `function` that take the state, with their types."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        advice = " Import it at run time, not under TYPE_CHECKING." if isinstance(error, NameError) else ""
        raise TypeError(f"{name}: {error}.{advice}") from None
    return {
        name: get_origin(get_args(hint)[0]) or get_args(hint)[0]
        for name, hint in hints.items()
        if any(isinstance(one, Resolve) and one.fn is _of_call for one in getattr(hint, "__metadata__", ()))
    }


def with_state(function: Callable[..., Any], state: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function without its parameters for the state, which are filled in at each call."""
    taken = shared_parameters(function)
    if not taken:
        return function

    @functools.wraps(function)
    def call(**given: Any) -> Any:
        return function(**given, **dict.fromkeys(taken, state()))

    @functools.wraps(function)
    async def call_async(**given: Any) -> Any:
        return await call(**given)

    made: Any = call_async if inspect.iscoroutinefunction(function) else call
    # Evaluated here, because the names in a signature that is set are never looked up.
    signature, hints = inspect.signature(function, eval_str=True), get_type_hints(function, include_extras=True)
    made.__signature__ = signature.replace(parameters=[p for p in signature.parameters.values() if p.name not in taken])
    made.__annotations__ = {name: hint for name, hint in hints.items() if name not in taken}
    return made  # type: ignore[no-any-return]


@dataclass(eq=False)
class ApplicationState:
    """The state of this process.

    Args:
        lifespan: opens and closes it, given the settings; without one the state is None.
        checks: by name, what raises while a part of the state does not work.
        functions: which may take the state.
    """

    lifespan: Lifespan | None
    settings: Settings
    checks: Mapping[str, Check]
    functions: Iterable[Callable[..., Any]]
    value: Any = None

    def __post_init__(self) -> None:
        self._lock = asyncio.Lock()
        self._checked_at = float("-inf")
        self._failing: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[str | None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the state, and close it in the end.

        Raises:
            StartError: if it cannot be opened, or is not what a function takes.
        """
        manager = None
        if self.lifespan is not None:
            try:
                manager = self.lifespan(self.settings)
                if not isinstance(manager, AbstractAsyncContextManager):
                    raise StartError(f"write @asynccontextmanager above {_code(self.lifespan).co_name}")
                self.value = await manager.__aenter__()
            except (SettingsError, StartError):
                raise
            except Exception as error:
                raise StartError(self._sentence(error)) from error
        try:
            self._require_types()
            yield
        finally:
            if manager is not None:
                try:
                    # Without what ended the server: a lifespan closes what it opened, `finally` or not.
                    async with asyncio.timeout(_CLOSE_SECONDS):  # in this task, which has opened it
                        await manager.__aexit__(None, None, None)
                except Exception as error:
                    log.error("the state could not be closed", cause=self._sentence(error))

    def _require_types(self) -> None:
        for function in self.functions:
            for name, kind in shared_parameters(function).items():
                if not isinstance(self.value, kind):
                    got = type(self.value).__name__ if self.lifespan is not None else "no lifespan"
                    takes = f"{function.__name__} takes {name}: Shared[{kind.__name__}]"
                    raise StartError(f"{takes}, but the service has {got}. Yield a {kind.__name__} from its lifespan")

    def _sentence(self, error: BaseException) -> str:
        """Say what failed, and where in the code of the lifespan: the line names the resource."""
        frames = [*traceback.extract_tb(error.__traceback__)]
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
            frames += traceback.extract_tb(error.__traceback__)
        code = _code(self.lifespan)
        package = Path(code.co_filename).parent
        place = next((frame for frame in reversed(frames) if Path(frame.filename).is_relative_to(package)), None)
        cause = shown(_USER.sub("[redacted]@", f"{type(error).__name__}: {error}".removesuffix(": ")))
        if place is None:
            return f"{cause}, in {code.co_name}"
        line = shown(_USER.sub("[redacted]@", place.line or ""))
        return f"{cause}, at `{line}` in {place.name} ({Path(place.filename).name}, line {place.lineno})"

    async def failing(self) -> list[str]:
        """Return the names of the checks that fail, as of the last second."""
        async with self._lock:
            if time.monotonic() - self._checked_at >= _FRESH_SECONDS:
                await self._run_checks()
                self._checked_at = time.monotonic()
            return list(self._failing)

    async def _run_checks(self) -> None:
        """Run all checks at once, and log what has changed since the last time."""

        async def cause_of(check: Check) -> str | None:
            try:
                await check(self.value)
            except (Exception, asyncio.CancelledError) as error:
                return self._sentence(error)
            except BaseException as error:  # it would end the event loop
                return self._sentence(RuntimeError(f"the check raised {type(error).__name__}"))
            return None

        slow = f"took longer than {_CHECK_SECONDS:g} seconds"
        tasks = self._tasks
        for name, check in self.checks.items():
            if name not in tasks or tasks[name].done():  # one that cannot be stopped does not pile up
                tasks[name] = asyncio.create_task(cause_of(check))
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=_CHECK_SECONDS)
            causes = {name: task.result() if task.done() else slow for name, task in tasks.items()}
            failing = {name: cause for name, cause in causes.items() if cause is not None}
        finally:
            for task in tasks.values():
                task.cancel()
        for name in failing.keys() - self._failing.keys():
            log.error("a check fails: /readyz is 503", check=name, cause=failing[name])
        for name in self._failing.keys() - failing.keys():
            log.warning("a check works again", check=name)
        self._failing = failing
